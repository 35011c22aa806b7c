// Captions written by a machine: asks how far it is while it is at work, and takes decisions about what is proposed.

(function () {
    if (window.hotloraDecide) return;

    const { find } = window.hotlora;
    const PERIOD_MS = 1000;

    let shown = "0"; // the last job whose captions the album shows
    let drawnFor; // the folder that the proposals were last asked for
    let named; // the folder that the page named a moment ago

    window.hotloraDecide = function (name, accept) {
        const proposals = find("#hotlora_proposals [data-of]");
        if (!proposals || window.hotlora.isOfOther(proposals)) return; // nobody sees what is decided about
        window.hotloraDecision = JSON.stringify([proposals.dataset.of, name, accept]);
        find("#hotlora_decide").click();
    };

    window.hotloraDecided = () => { window.hotlora.lookAgain(window.hotlora.readAgain); };

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_proposals [data-accept]");
        if (button) window.hotloraDecide(button.closest("[data-proposal]").dataset.proposal, button.dataset.accept === "1");
    });

    const ask = () => find("#hotlora_captions_tick").click();

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null || !find("#hotlora_captions_tick")) return;
        const state = document.querySelector("#hotlora_captions_status [data-busy]");
        const isBusy = Boolean(state) && state.dataset.busy === "1";
        const album = document.querySelector("#hotlora_album [data-name]");
        if (state && !isBusy && state.dataset.number !== shown) { // however soon it was done
            shown = state.dataset.number;
            window.hotlora.lookAgain();
        }
        const isSettled = named === (named = window.hotlora.nameFolder());
        if (isBusy) {
            ask();
        } else if (isSettled && named !== drawnFor && (album || find("#hotlora_proposals [data-of]"))) { // those from before, or of another folder
            drawnFor = named;
            ask();
        }
        for (const image of document.querySelectorAll("#hotlora_proposals img[hidden]")) {
            const name = image.closest("[data-proposal]").dataset.proposal;
            const card = [...document.querySelectorAll("#hotlora_album [data-name]")].find((figure) => figure.dataset.name === name);
            const picture = card && card.querySelector("img");
            if (picture && picture.src) {
                image.src = picture.src;
                image.hidden = false;
            }
        }
    }, PERIOD_MS);
})();
