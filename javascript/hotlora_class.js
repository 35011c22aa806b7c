// Regularisation pictures: asks how far they are while they are drawn, and makes a row of their folder.

(function () {
    if (window.hotlora.classPictures) return;

    const { find } = window.hotlora;
    const PERIOD_MS = 1000;
    let hasAsked = false; // once for what was drawn before this page was opened

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_class_status [data-class-folder]");
        if (!button) return;
        window.hotlora.addFolder({ folder: button.dataset.classFolder, regularisation: true });
        button.hidden = true;
    });

    window.hotlora.classPictures = setInterval(() => {
        const page = find("#hotlora_page");
        const tick = find("#hotlora_class_tick");
        if (!page || document.hidden || page.offsetParent === null || !tick) return;
        const state = document.querySelector("#hotlora_class_status [data-busy]");
        if (!hasAsked || (state && state.dataset.busy === "1")) tick.click();
        hasAsked = true;
        const button = document.querySelector("#hotlora_class_status [data-class-folder]");
        if (button) button.hidden = window.hotlora.hasFolder(button.dataset.classFolder);
    }, PERIOD_MS);
})();
