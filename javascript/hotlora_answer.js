// What is said where somebody has just pressed a button: that something goes on and for how long, then the answer, brought into view. And
// one line of what goes on while its own place is out of sight, and notes that go when they are no longer true.

(function () {
    if (window.hotloraAnswered) return;

    const { find, lookNow } = window.hotlora;
    const NOTE_MS = 12000; // a note that nothing is wrong is read by then
    // button -> where its answer appears, where it says what is wrong
    const ANSWERS = {
        hotlora_train: ["#hotlora_watch", "#hotlora_answer"],
        hotlora_find: ["#hotlora_watch", "#hotlora_find_answer"],
        hotlora_look_ahead: ["#hotlora_outlook", "#hotlora_answer"],
        hotlora_grid_draw: ["#hotlora_grid_answer", "#hotlora_grid_answer"],
        hotlora_grid_keep: ["#hotlora_grid_answer", "#hotlora_grid_answer"],
        hotlora_grid_take: ["#hotlora_grid_answer", "#hotlora_grid_answer"],
        hotlora_look: ["#hotlora_album", "#hotlora_message"],
        hotlora_examine: ["#hotlora_health", "#hotlora_message"],
        hotlora_draw_class: ["#hotlora_class_status", "#hotlora_message"],
        hotlora_write_captions: ["#hotlora_captions_status", "#hotlora_message"],
    };
    const working = {}; // button -> the sign that its answer is awaited

    function sign(event) {
        const button = event.target.closest && event.target.closest("#hotlora_page button");
        if (!button || !ANSWERS[button.id] || button.disabled || working[button.id]) return;
        const note = Object.assign(document.createElement("div"), { className: "hotlora-working" });
        note.setAttribute("role", "status");
        const clock = document.createElement("b");
        const since = Date.now();
        note.append(Object.assign(document.createElement("i"), { className: "hotlora-spin" }), clock);
        const tell = () => { clock.textContent = `${Math.round((Date.now() - since) / 1000)} s`; };
        tell();
        (button.closest(".hotlora-buttons") || button).after(note);
        working[button.id] = { note, timer: setInterval(tell, 500) };
    }
    document.addEventListener("click", sign, true);

    const isInSight = (place) => {
        const box = place.getBoundingClientRect();
        return box.top >= 0 && box.top < window.innerHeight - 80 && box.bottom <= window.innerHeight;
    };

    function bringIntoView(place, block) {
        if (place && place.offsetParent !== null && !isInSight(place)) place.scrollIntoView({ behavior: "smooth", block });
    }

    window.hotloraAnswered = function (button) {
        if (working[button]) {
            clearInterval(working[button].timer);
            working[button].note.remove();
            delete working[button];
        }
        lookNow();
        if (!ANSWERS[button]) return;
        const [place, refusal] = ANSWERS[button];
        setTimeout(() => {
            if (find(`${place} [data-looking]`)) return; // it goes on, and people look elsewhere meanwhile
            if (find(`${refusal} .hotlora-bad`)) bringIntoView(find(refusal), "nearest");
            else bringIntoView(find(place), place === "#hotlora_watch" ? "start" : "nearest");
        }, 150);
    };

    // The outlook comes some seconds later, by the news; then it is brought into view once more.
    let outlookWas = "";
    function followOutlook() {
        const card = find("#hotlora_outlook .hotlora-card");
        const state = card ? card.dataset.state : "";
        if (outlookWas === "busy" && state && state !== "busy") bringIntoView(find("#hotlora_outlook"), "nearest");
        outlookWas = state;
    }

    // A clock on what takes long: told how long it has taken when it was drawn.
    function tellClocks() {
        for (const clock of document.querySelectorAll("#hotlora_page [data-elapsed]")) {
            if (!clock.dataset.since) clock.dataset.since = Date.now() - 1000 * Number(clock.dataset.elapsed);
            clock.textContent = `${Math.round((Date.now() - Number(clock.dataset.since)) / 1000)} s`;
        }
    }

    // -- the line ------------------------------------------------------------------------------------------------------

    let dismissed = ""; // the run and the state whose line was sent away: it comes again with another

    function showLine() {
        const line = find("#hotlora_now");
        const status = find("#hotlora_status");
        if (!line || !status) return;
        const box = status.getBoundingClientRect();
        const inSight = status.offsetParent !== null && box.bottom > 40 && box.top < window.innerHeight - 40;
        const told = (line.querySelector("[data-line]") || { dataset: { line: "" } }).dataset.line;
        line.classList.toggle("hotlora-away", inSight || !told || told === dismissed);
        const isShown = getComputedStyle(line).display !== "none" && status.offsetParent !== null;
        document.documentElement.classList.toggle("hotlora-has-line", isShown);
    }
    document.addEventListener("click", (event) => {
        if (!event.target.closest) return;
        if (event.target.closest(".hotlora-go")) bringIntoView(find("#hotlora_watch"), "start");
        const line = event.target.closest(".hotlora-dismiss") && event.target.closest("[data-line]");
        if (line) dismissed = line.dataset.line;
        if (line) showLine();
    });

    // -- notes ---------------------------------------------------------------------------------------------------------

    const seen = new WeakMap(); // a note -> when it came, and what the run did then

    function dropNotes() {
        const shown = find("#hotlora_status [data-status]");
        const state = shown ? `${shown.dataset.status} ${(shown.querySelector("strong") || {}).textContent}` : "";
        for (const note of document.querySelectorAll("#hotlora_message .hotlora-message, #hotlora_answer .hotlora-message, #hotlora_find_answer .hotlora-message, #hotlora_grid_answer .hotlora-message")) {
            if (!note.closest("[data-said]")) continue; // it stands as long as it is true
            const then = seen.get(note) || { at: Date.now(), state };
            seen.set(note, then);
            const bad = note.classList.contains("hotlora-bad");
            if (!bad && (Date.now() - then.at > NOTE_MS || (then.state !== state && Date.now() - then.at > 3000))) note.remove();
        }
    }

    // -- of which folder ---------------------------------------------------------------------------------------------------

    window.hotlora.nameFolder = () => ((find("#hotlora_train_data_dir textarea, #hotlora_train_data_dir input") || {}).value || "").trim();
    window.hotlora.isOfOther = (part) => part.dataset.of !== window.hotlora.nameFolder();

    function markOthers() {
        for (const part of document.querySelectorAll("#hotlora_page [data-of]")) part.classList.toggle("hotlora-other", window.hotlora.isOfOther(part));
    }

    // -- the runs ------------------------------------------------------------------------------------------------------

    document.addEventListener("click", (event) => {
        const row = event.target.closest && event.target.closest("#hotlora_runs tr[data-name]");
        if (!row || event.target.closest("[data-move]")) return;
        window.hotloraChosen = row.dataset.name;
        find("#hotlora_choose").click();
    });

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_runs [data-move]");
        if (!button) return;
        window.hotloraMoved = [button.dataset.run, Number(button.dataset.move)];
        find("#hotlora_move").click();
    });

    function nameRun() {
        const [button, name] = [find("#hotlora_delete"), find("#hotlora_status strong")];
        if (!button) return;
        const wanted = name ? name.textContent : "";
        if (button.dataset.run !== wanted) button.dataset.run = wanted;
        for (const row of document.querySelectorAll("#hotlora_runs tr[data-name]")) {
            const choose = row.querySelector(".hotlora-choose");
            const isShown = String(row.dataset.name === wanted);
            if (choose.getAttribute("aria-pressed") !== isShown) choose.setAttribute("aria-pressed", isShown);
        }
    }

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden) return;
        showLine();
        if (page.offsetParent === null) return;
        followOutlook();
        tellClocks();
        dropNotes();
        markOthers();
        nameRun();
    }, 250);
    window.addEventListener("scroll", showLine, { passive: true, capture: true });
})();
