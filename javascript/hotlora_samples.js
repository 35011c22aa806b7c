// Samples: rows that stand at their newest; one over the whole page on a click, and its prompt's other steps by a slider or the arrow
// keys. And the chart's choices, shown at once.

(function () {
    if (window.hotloraSamples) return;
    window.hotloraSamples = true;

    let dialog, figures, place;

    function make() {
        dialog = Object.assign(document.createElement("dialog"), { className: "hotlora-large" });
        const close = Object.assign(document.createElement("button"), { type: "button", textContent: "✕" });
        close.setAttribute("aria-label", window.hotlora.translate("Close"));
        close.addEventListener("click", () => dialog.close());
        const slider = Object.assign(document.createElement("input"), { type: "range", min: 0 });
        slider.setAttribute("aria-label", window.hotlora.translate("Step"));
        slider.addEventListener("input", () => show(Number(slider.value)));
        dialog.append(close, document.createElement("p"), document.createElement("img"), slider);
        dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
        dialog.addEventListener("keydown", (event) => {
            const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
            if (by === undefined) return;
            event.preventDefault();
            show(place + by);
        });
        document.body.append(dialog);
    }

    function show(wanted) {
        place = Math.max(0, Math.min(figures.length - 1, wanted));
        const { src, alt } = figures[place].querySelector("img");
        Object.assign(dialog.querySelector("img"), { src, alt });
        dialog.querySelector("p").textContent = alt;
        Object.assign(dialog.querySelector("input"), { max: figures.length - 1, value: place });
    }

    function open(event) {
        const picture = event.target.closest && event.target.closest(".hotlora-row img");
        if (!picture || (event.type === "keydown" && event.key !== "Enter")) return;
        if (!dialog) make();
        figures = [...picture.closest(".hotlora-row").querySelectorAll("figure")].filter((figure) => figure.querySelector("img"));
        show(figures.indexOf(picture.closest("figure")));
        dialog.showModal();
        dialog.querySelector("input").focus();
    }
    document.addEventListener("click", open);
    document.addEventListener("keydown", open);

    // A row stands at its newest sample, or as far from it as somebody has moved it, also when it is drawn anew.
    const fromEnd = {}; // a row's number -> pixels
    const rows = () => [...document.querySelectorAll("#hotlora_samples .hotlora-row")];
    const end = (row) => row.scrollWidth - row.clientWidth;
    let holder;

    const standAtEnd = () => rows().forEach((row, number) => { row.scrollLeft = end(row) - (fromEnd[number] || 0); });
    setInterval(() => {
        const now = window.hotlora.find("#hotlora_samples");
        if (!now || now === holder) return;
        holder = now;
        new MutationObserver(standAtEnd).observe(holder, { childList: true, subtree: true });
        standAtEnd();
    }, 500);
    document.addEventListener("scroll", ({ target }) => {
        const number = rows().indexOf(target);
        if (number >= 0) fromEnd[number] = end(target) - target.scrollLeft;
    }, true);

    const redraw = (event) => event.target.closest && event.target.closest("#hotlora_chart_options") && setTimeout(window.hotlora.lookNow, 50);
    document.addEventListener("change", redraw);
    document.addEventListener("input", redraw);
})();
