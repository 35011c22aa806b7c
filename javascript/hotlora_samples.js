// Samples and grids: one picture or answer over the whole page on a click, and the others of its row (and, in a grid, of its column) by a slider
// or the arrow keys, with what can be done with a checkpoint. Samples' rows stand at their newest. And the chart's choices, shown at once.

(function () {
    if (window.hotloraSamples) return;
    window.hotloraSamples = true;

    let dialog, rows, place; // rows of figures, and which of them is shown: [down, across]

    function make() {
        dialog = Object.assign(document.createElement("dialog"), { className: "hotlora-large" });
        const slider = Object.assign(document.createElement("input"), { type: "range", min: 0 });
        slider.setAttribute("aria-label", window.hotlora.translate("Step"));
        slider.addEventListener("input", () => show(place[0], Number(slider.value)));
        const use = button(window.hotlora.translate("Use this one"), takeShown);
        const keep = button(window.hotlora.translate("Keep only this one"), keepOnly);
        const close = button("✕", () => dialog.close());
        close.className = "hotlora-close";
        close.setAttribute("aria-label", window.hotlora.translate("Close"));
        const choices = Object.assign(document.createElement("div"), { className: "hotlora-choices" });
        choices.append(use, keep);
        dialog.append(close, document.createElement("p"), document.createElement("img"), document.createElement("pre"), slider, choices);
        dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
        dialog.addEventListener("keydown", (event) => {
            const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key];
            if (!by) return;
            event.preventDefault();
            show(place[0] + by[0], place[1] + by[1]);
        });
        document.body.append(dialog);
    }

    function button(words, act) {
        const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
        made.addEventListener("click", act);
        return made;
    }

    const clamp = (wanted, count) => Math.max(0, Math.min(count - 1, wanted));
    const shown = () => rows[place[0]][place[1]];

    function show(down, across) {
        const row = clamp(down, rows.length);
        const column = clamp(across, rows[row].length);
        const figure = rows[row][column];
        if (!figure) return; // not drawn yet
        place = [row, column];
        const picture = figure.querySelector("img");
        const text = figure.querySelector("pre");
        const large = dialog.querySelector("img");
        large.hidden = !picture;
        if (picture) Object.assign(large, { src: picture.src, alt: picture.alt });
        Object.assign(dialog.querySelector("pre"), { hidden: !text, textContent: text ? text.textContent : "", scrollTop: 0 });
        dialog.querySelector("p").textContent = picture ? picture.alt : text.title;
        Object.assign(dialog.querySelector("input"), { max: rows[row].length - 1, value: column });
        const [use, keep] = dialog.querySelectorAll(".hotlora-choices button");
        use.hidden = !figure.dataset.tag && !figure.dataset.strength;
        keep.hidden = !figure.dataset.gone;
    }

    function takeShown() {
        const { tag, keep, strength } = shown().dataset;
        const run = shown().closest(".hotlora-beside").dataset.run;
        dialog.close();
        if (tag) return window.hotloraUse(tag);
        window.hotloraTaken = [run, keep, strength];
        window.hotlora.find("#hotlora_grid_take").click();
    }

    function keepOnly() {
        const { keep, gone } = shown().dataset;
        const run = shown().closest(".hotlora-beside").dataset.run;
        const question = window.hotlora.translate("Remove the other checkpoints of this run, with their cards and copies? A finished LoRA stays. These go:");
        if (!window.hotloraConfirm(question, gone)) return;
        dialog.close();
        window.hotloraKept = [run, keep];
        window.hotlora.find("#hotlora_grid_keep").click();
    }

    function open(event) {
        const picture = event.target.closest && event.target.closest(".hotlora-row img, .hotlora-beside :is(img, pre)");
        if (!picture || (event.type === "keydown" && event.key !== "Enter")) return;
        if (!dialog) make();
        const table = picture.closest(".hotlora-beside");
        if (table) {
            rows = [...table.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")].map((cell) => cell.querySelector("figure")));
        } else {
            rows = [[...picture.closest(".hotlora-row").querySelectorAll("figure")].filter((figure) => figure.querySelector("img"))];
        }
        const down = rows.findIndex((row) => row.includes(picture.closest("figure")));
        show(down, rows[down].indexOf(picture.closest("figure")));
        dialog.showModal();
        dialog.querySelector("input").focus();
    }
    document.addEventListener("click", open);
    document.addEventListener("keydown", open);

    // A row stands at its newest sample, or as far from it as somebody has moved it, also when it is drawn anew.
    const fromEnd = {}; // a row's number -> pixels
    const sampleRows = () => [...document.querySelectorAll("#hotlora_samples .hotlora-row")];
    const end = (row) => row.scrollWidth - row.clientWidth;
    let holder;

    const standAtEnd = () => sampleRows().forEach((row, number) => { row.scrollLeft = end(row) - (fromEnd[number] || 0); });
    setInterval(() => {
        const now = window.hotlora.find("#hotlora_samples");
        if (!now || now === holder) return;
        holder = now;
        new MutationObserver(standAtEnd).observe(holder, { childList: true, subtree: true });
        standAtEnd();
    }, 500);
    document.addEventListener("scroll", ({ target }) => {
        const number = sampleRows().indexOf(target);
        if (number >= 0) fromEnd[number] = end(target) - target.scrollLeft;
    }, true);

    const redraw = (event) => event.target.closest && event.target.closest("#hotlora_chart_options") && setTimeout(window.hotlora.lookNow, 50);
    document.addEventListener("change", redraw);
    document.addEventListener("input", redraw);
})();
