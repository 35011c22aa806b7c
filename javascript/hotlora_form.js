// The form while it is filled in: which options have a say, which differ from the preset, what a search finds, and that it is kept.
// What needs the options' own types is asked of the server: setting one, keeping and bringing back all of them.

(function () {
    if (window.hotloraRestored) return;

    const { find } = window.hotlora;
    const KEEP_MS = 1000; // after the last change
    const DRAWN_MS = 2000;

    const place = (key) => find(`#hotlora_${key}`);

    // What a widget shows; undefined where there is none.
    function read(key) {
        const block = place(key);
        const box = block && block.querySelector("textarea, input:not([type=range])");
        if (!box) return undefined;
        return box.type === "checkbox" ? box.checked : box.value;
    }

    function isSame(shown, wanted) {
        if (typeof wanted === "boolean" || typeof shown === "boolean") return shown === wanted;
        const [a, b] = [String(shown ?? "").trim(), String(wanted ?? "").trim()];
        return a === b || (a !== "" && b !== "" && Number(a) === Number(b));
    }

    function readJson(selector, name) {
        const element = find(selector);
        return element ? JSON.parse(element.dataset[name]) : {};
    }

    function set(key, ...value) {
        window.hotloraWish = [key, ...value];
        find("#hotlora_set").click();
    }

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_outlook [data-proposal]");
        if (!button) return;
        window.hotloraWish = JSON.parse(button.dataset.proposal);
        find("#hotlora_set").click();
    });

    // -- which have a say, and which were changed ----------------------------------------------------------------------

    const isWithout = (value) => value === undefined || value === "" || Number(value) === 0;

    function fits(key, terms) {
        const wanted = terms.fits[key];
        if (wanted && !wanted.some(([other, values]) => read(other) === undefined || values.some((value) => isSame(read(other), value)))) return false;
        const needed = terms.needs[key];
        return !needed || needed.some((other) => !isWithout(read(other)));
    }

    function markField(block, terms, shown) {
        const key = block.id.replace("hotlora_", "");
        if (block.dataset.key !== key) block.dataset.key = key;
        const changed = key in shown && read(key) !== undefined && !isSame(read(key), shown[key]);
        block.classList.toggle("hotlora-changed", changed);
        block.classList.toggle("hotlora-unfit", !changed && !fits(key, terms));
        const back = block.querySelector(":scope > .hotlora-back");
        if (changed && !back) {
            const words = window.hotlora.translate("Back to the preset's value");
            const made = Object.assign(document.createElement("button"), { type: "button", className: "hotlora-back", textContent: "↺", title: words });
            made.setAttribute("aria-label", words);
            made.addEventListener("click", () => set(key));
            block.append(made);
        } else if (!changed && back) {
            back.remove();
        }
    }

    function followRank() {
        for (const [key, other] of [["lora_alpha", "lora_rank"], ["conv_alpha", "conv_rank"]]) {
            const box = place(key) && place(key).querySelector("input, textarea");
            if (box && read(other) !== undefined && box.placeholder !== String(read(other))) box.placeholder = String(read(other));
        }
    }

    // -- how long: epochs or steps -------------------------------------------------------------------------------------

    let wantsSteps = null; // what was pressed; null where the form says it

    function showLength() {
        const area = find("#hotlora_length");
        if (!area) return;
        const given = !isWithout(read("max_steps"));
        const steps = wantsSteps === null ? given : wantsSteps;
        if (wantsSteps === given) wantsSteps = null;
        area.classList.toggle("hotlora-by-steps", steps);
        for (const button of area.querySelectorAll("[data-length]")) {
            button.setAttribute("aria-pressed", String((button.dataset.length === "max_steps") === steps));
        }
    }

    function chooseLength(event) {
        const button = event.target.closest && event.target.closest("[data-length]");
        if (!button) return;
        wantsSteps = button.dataset.length === "max_steps";
        if (!wantsSteps && !isWithout(read("max_steps"))) set("max_steps", null);
        showLength();
        if (wantsSteps) place("max_steps").querySelector("input, textarea").focus();
    }
    document.addEventListener("click", chooseLength);

    // -- Advanced ------------------------------------------------------------------------------------------------------

    function openGroup(heading, open) {
        heading.setAttribute("aria-expanded", String(open));
        find(`#hotlora_group_${heading.dataset.group}`).classList.toggle("hotlora-open", open);
    }

    document.addEventListener("click", (event) => {
        const heading = event.target.closest && event.target.closest(".hotlora-heading");
        if (heading) openGroup(heading, heading.getAttribute("aria-expanded") !== "true");
    });

    function search() {
        const box = find("#hotlora_search");
        const words = box ? box.value.toLowerCase().split(/\s+/).filter((word) => word) : [];
        const advanced = find("#hotlora_advanced");
        if (!advanced) return;
        advanced.classList.toggle("hotlora-searching", words.length > 0);
        for (const heading of advanced.querySelectorAll(".hotlora-heading")) {
            const group = find(`#hotlora_group_${heading.dataset.group}`);
            const fields = [...group.querySelectorAll(".hotlora-option[data-key]")];
            for (const field of fields) {
                const text = `${field.textContent} ${field.dataset.key} ${field.dataset.key.replace(/_/g, " ")}`.toLowerCase();
                field.classList.toggle("hotlora-unfound", words.some((word) => !text.includes(word)));
            }
            const found = fields.filter((field) => !field.classList.contains("hotlora-unfound"));
            const changed = fields.filter((field) => field.classList.contains("hotlora-changed"));
            for (const part of [find(`#hotlora_heading_${heading.dataset.group}`), group]) part.classList.toggle("hotlora-unfound", found.length === 0);
            const count = words.length ? String(found.length) : changed.length ? `● ${changed.length}` : "";
            const shown = heading.querySelector("b");
            if (shown.textContent !== count) shown.textContent = count;
        }
    }
    document.addEventListener("input", (event) => event.target.id === "hotlora_search" && search());

    // A sentence that names options by their keys gets a way to each of them.
    function linkKeys() {
        for (const note of document.querySelectorAll("#hotlora_page .hotlora-bad:not([data-linked])")) {
            note.dataset.linked = "true";
            const keys = [...new Set(note.textContent.match(/\b[a-z0-9]+(?:_[a-z0-9]+)+\b|\b(?:epochs|resolutions?|datasets|optimizer|scheduler)\b/g) || [])];
            const known = keys.filter((key) => place(key) && place(key).classList.contains("hotlora-option"));
            if (!known.length) continue;
            const row = Object.assign(document.createElement("p"), { className: "hotlora-ways" });
            for (const key of known.slice(0, 4)) {
                const label = place(key).querySelector("span");
                const way = Object.assign(document.createElement("button"), { type: "button", textContent: `→ ${label ? label.textContent.trim() : key}` });
                way.addEventListener("click", () => goTo(key));
                row.append(way);
            }
            note.append(row);
        }
    }

    function goTo(key) {
        const block = place(key);
        const group = block.closest(".hotlora-group");
        if (group) {
            const opener = find("#hotlora_advanced > button, #hotlora_advanced > .label-wrap");
            if (block.offsetParent === null && group.offsetParent === null && opener && !isOpen()) opener.click();
            openGroup(find(`.hotlora-heading[data-group="${group.id.replace("hotlora_group_", "")}"]`), true);
        }
        if (key === "max_steps" || key === "epochs") wantsSteps = key === "max_steps";
        setTimeout(() => {
            showLength();
            block.classList.add("hotlora-sought");
            block.scrollIntoView({ behavior: "smooth", block: "center" });
            (block.querySelector("input, textarea") || block).focus({ preventScroll: true });
            setTimeout(() => block.classList.remove("hotlora-sought"), 2500);
        }, 100);
    }

    const isOpen = () => { const box = find("#hotlora_search"); return box && box.offsetParent !== null; };

    // -- keeping -------------------------------------------------------------------------------------------------------

    let restoredAt = 0, asked = false, kept = null, latest = null, changedAt = 0;

    window.hotloraRestored = () => { restoredAt = Date.now(); putBack(); };

    // What is typed before the kept form is there stays; the page draws that form later than it says.
    const typed = new Map();
    let typedAt = 0;
    const isDrawn = () => restoredAt && Date.now() - restoredAt > DRAWN_MS;

    document.addEventListener("input", (event) => {
        const box = event.target;
        const isText = box.matches("#hotlora_page .hotlora-option :is(textarea, input[type=number], input:not([type]), input[type=text])");
        if (!isText || box.closest(".secondary-wrap") || isDrawn()) return; // there a menu is searched
        if (!typed.size) typedAt = Date.now();
        typed.set(box, box.value);
    });

    function putBack() {
        const brought = readJson("#hotlora_kept i", "kept");
        for (const [box, value] of typed) {
            const key = box.closest(".hotlora-option").id.replace("hotlora_", "");
            if (box.value === value || !(key in brought) || !isSame(box.value, brought[key])) continue;
            box.value = value;
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }
        if (!isDrawn()) requestAnimationFrame(putBack);
    }

    // A button that sends the form waits until the kept form is drawn: in between, the page would send that one instead of what is seen.
    const LONGEST_WAIT_MS = 8000;
    const isWaiting = () => typed.size > 0 && !isDrawn() && Date.now() - typedAt < LONGEST_WAIT_MS;
    let held = null;

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_look, #hotlora_look_ahead, #hotlora_train");
        if (!button || !isWaiting()) return;
        event.stopPropagation();
        event.preventDefault();
        if (!held) held = setInterval(() => {
            if (isWaiting()) return;
            clearInterval(held);
            held = null;
            button.click();
        }, 100);
    }, true);

    function describeForm(without) {
        const keys = [...document.querySelectorAll("#hotlora_page .hotlora-option")].map((block) => block.id.replace("hotlora_", ""));
        return JSON.stringify([...keys, "preset"].filter((key) => key !== without).map(read));
    }

    // What will happen is told of the recipe as it was when that was asked; its name has no say in it.
    let lookedAt = null;
    document.addEventListener("click", (event) => {
        if (event.target.closest && event.target.closest("#hotlora_look_ahead")) lookedAt = describeForm("output_name");
    });

    function markOutlook() {
        const note = find("#hotlora_outlook .hotlora-since");
        if (note) note.classList.toggle("hotlora-other", lookedAt !== null && describeForm("output_name") !== lookedAt);
    }

    function keep() {
        const now = describeForm();
        if (!asked) {
            asked = true;
            kept = latest = now;
            find("#hotlora_restore").click();
        }
        if (now !== latest) [latest, changedAt] = [now, Date.now()];
        if (restoredAt && latest !== kept && !window.hotlora.isUploading() && Date.now() - changedAt > KEEP_MS) {
            kept = latest;
            find("#hotlora_keep").click();
        }
    }

    // Gradio 3.41 names the slider, but not the number beside it.
    function nameSliderNumbers() {
        for (const input of document.querySelectorAll('#hotlora_page .head input[type="number"]:not([aria-label])')) {
            input.setAttribute("aria-label", input.parentElement.textContent.trim());
        }
    }

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || !find("#hotlora_terms") || document.hidden || page.offsetParent === null) return;
        const terms = readJson("#hotlora_terms", "terms");
        const shown = readJson("#hotlora_baseline i", "shown");
        for (const block of document.querySelectorAll("#hotlora_page .hotlora-option")) markField(block, terms, shown);
        followRank();
        showLength();
        search();
        linkKeys();
        nameSliderNumbers();
        markOutlook();
        keep();
    }, 300);
})();
