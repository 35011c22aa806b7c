// The health report: one of many pictures goes on piece by piece until it is done or stopped; a button beside a finding mends it, once it is
// said of how many pictures, and the report is made anew.

(function () {
    if (window.hotloraMended) return;

    const { find, translate } = window.hotlora;
    const SHOWN = 3;
    const listQuestions = () => ({ // by the remedy's operation
        leave_out: translate("Leave out of training? It is moved into a folder 'left out', and can be brought back."),
        cut_borders: translate("Cut off what frames these pictures? Their files stay as they are, and that can be undone."),
        rows: translate("Change the files? They are kept beside as they are, and that can be undone."),
        any: translate("Change captions? That can be undone."),
    });

    function isWanted(remedy) {
        const questions = listQuestions();
        const named = remedy.names.slice(0, SHOWN).join(", ") + (remedy.names.length > SHOWN ? " …" : "");
        const asked = `${translate(remedy.label)}${remedy.text ? ` '${remedy.text}'` : ""}\n\n${(remedy.state ? questions.rows : questions[remedy.operation]) || questions.any}`;
        return confirm(`${asked}\n\n${remedy.names.length}: ${named}`);
    }

    const listButtons = () => document.querySelectorAll("#hotlora_health button");

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_health [data-remedy], #hotlora_health [data-undo]");
        if (!button || button.disabled) return;
        const remedy = button.dataset.remedy ? JSON.parse(button.dataset.remedy) : null;
        if (remedy && !isWanted(remedy)) return;
        const folder = button.closest("[data-of]").dataset.of;
        for (const other of listButtons()) other.disabled = true; // until the report is drawn anew
        reached = howFar();
        window.hotloraRemedy = JSON.stringify({ folder, remedy });
        find("#hotlora_mend").click();
    });

    // How far the report is that is drawn; of one that is done, nothing.
    const howFar = () => (find("#hotlora_health [data-looking]") || { dataset: {} }).dataset.looking;
    let reached; // when the rest was asked for
    let isStopped = false;
    document.addEventListener("click", (event) => {
        if (!event.target.closest) return;
        if (event.target.closest("#hotlora_examine")) reached = howFar();
        if (!event.isTrusted) return; // the script's own press goes on
        if (event.target.closest("#hotlora_examine")) isStopped = false;
        if (!event.target.closest("#hotlora_health [data-stop]")) return;
        isStopped = true;
        goOn();
    }, true);

    function goOn() {
        const button = find("#hotlora_health [data-stop]");
        if (!button) return;
        isStopped = isStopped || window.hotlora.isOfOther(button.closest("[data-of]"));
        if (!isStopped) find("#hotlora_examine").click();
        else if (!button.disabled) button.after(` ${translate("Stopped. Health report goes on with the rest.")}`);
        button.disabled = isStopped;
    }

    // The page draws an answer some time after it says that it is there: on a slow machine many seconds.
    let timer;
    function whenDrawn() {
        clearTimeout(timer);
        if (howFar() !== reached) goOn();
        else timer = setTimeout(whenDrawn, 100);
    }

    window.hotloraExamined = () => whenDrawn();

    window.hotloraMended = function () {
        setTimeout(() => { // the page draws it after it says so; after a refusal it stays as it was
            for (const button of listButtons()) button.disabled = false;
            window.hotlora.lookAgain(window.hotlora.readAgain);
        }, 100);
        whenDrawn();
    };
})();
