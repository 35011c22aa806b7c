// Further folders: a row of fields for each entry of `datasets`. The widget itself is a text with one entry a line, which the server reads;
// what a row does not show of an entry stays in it.

(function () {
    if (window.hotlora.folders) return;

    const { find, translate } = window.hotlora;
    const listCells = () => [ // key, label, what an empty cell shows (false: it is a switch), whether it is a number
        ["folder", translate("Folder"), translate("a folder on this computer")],
        ["trigger_word", translate("Trigger word"), translate("as below")],
        ["repeats", translate("Repeats"), translate("by its name"), true],
        ["weight", translate("Weight"), "1", true],
        ["resolution", translate("Resolution"), translate("as below")],
        ["flip_aug", translate("Mirror"), false],
        ["regularisation", translate("Regularisation"), false],
    ];
    let written = null; // the text that the table stands for

    const make = (name, more) => Object.assign(document.createElement(name), more);
    const area = () => find("#hotlora_datasets textarea");

    function readLine(line) {
        try {
            const entry = JSON.parse(line);
            if (entry && typeof entry === "object" && !Array.isArray(entry)) return entry;
        } catch (error) {
            return { folder: line }; // typed as a text
        }
        return { folder: line };
    }

    // What a cell shows of an entry. Pictures to regularise by have class words where others have a trigger word.
    const keyOf = (entry, key) => (key === "trigger_word" && entry.regularisation ? "class_words" : key);
    function shown(entry, key) {
        if (key === "resolution" && entry.resolutions) return entry.resolutions.join(", ");
        const value = entry[keyOf(entry, key)];
        return value === undefined || value === null ? "" : value;
    }

    function change(entry, [key, , , isNumber], value) {
        const changed = { ...entry };
        if (key === "resolution") {
            const sizes = value.split(/[\s,;]+/).filter((size) => size).map((size) => (isNaN(size) ? size : Number(size)));
            delete changed.resolutions;
            delete changed.resolution;
            if (sizes.length > 1) changed.resolutions = sizes;
            if (sizes.length === 1) changed.resolution = sizes[0];
            return changed;
        }
        const name = keyOf(entry, key);
        if (value === "" || value === false) delete changed[name];
        else changed[name] = isNumber && !isNaN(value) ? Number(value) : value;
        if (key === "regularisation") { // the word is one of the class now, or the other way round
            const [from, to] = value ? ["trigger_word", "class_words"] : ["class_words", "trigger_word"];
            if (changed[from] !== undefined) changed[to] = changed[from];
            delete changed[from];
        }
        return changed;
    }

    function write() {
        const entries = [...document.querySelectorAll("#hotlora_folders .hotlora-folder")].map((row) => row.entry);
        const text = entries.filter((entry) => Object.keys(entry).length).map((entry) => JSON.stringify(entry)).join("\n");
        if (text === written) return;
        written = text;
        area().value = text;
        area().dispatchEvent(new Event("input", { bubbles: true }));
    }

    function drawCell(row, column) {
        const [key, label, empty] = column;
        const value = shown(row.entry, key);
        const isSwitch = empty === false;
        const isClass = keyOf(row.entry, key) === "class_words";
        const hint = isClass ? translate("such as person") : empty;
        const box = make("input", isSwitch ? { type: "checkbox", checked: value === true } : { type: "text", value, placeholder: hint });
        box.dataset.cell = key;
        box.addEventListener("input", (event) => event.stopPropagation()); // the form is the text, not the rows
        box.addEventListener("change", () => {
            row.entry = change(row.entry, column, isSwitch ? box.checked : box.value.trim());
            write();
            if (key === "regularisation") drawRow(row);
        });
        const cell = make("label", { className: isSwitch ? "hotlora-switch" : "" });
        cell.append(make("span", { textContent: isClass ? translate("Class words") : label }), box);
        return cell;
    }

    function drawRow(row) {
        const known = listCells().map(([key]) => keyOf(row.entry, key)).concat("resolutions");
        const more = Object.entries(row.entry).filter(([key]) => !known.includes(key));
        const others = make("span", { className: "hotlora-muted", textContent: more.map(([key]) => `+ ${key}`).join(" ") });
        others.title = more.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join("\n");
        const remove = make("button", { type: "button", className: "hotlora-remove", textContent: "×", title: translate("Remove this folder") });
        remove.setAttribute("aria-label", translate("Remove this folder"));
        remove.addEventListener("click", () => { row.remove(); write(); });
        const [folder, ...cells] = listCells().map((cell) => drawCell(row, cell));
        row.replaceChildren(folder, remove, ...cells, others);
    }

    function addRow(entry) {
        const row = make("div", { entry, className: "hotlora-folder" });
        drawRow(row);
        find("#hotlora_folders .hotlora-add").before(row);
        return row;
    }

    function build(block) {
        const add = make("button", { type: "button", className: "hotlora-add", textContent: `+ ${translate("Add a folder")}` });
        add.addEventListener("click", () => addRow({}).querySelector("input").focus());
        const frame = make("div", { id: "hotlora_folders" });
        frame.append(add);
        block.append(frame);
        block.classList.add("hotlora-tabled");
        written = null;
    }

    // Whether a folder has a row; and a row for it, where it has none.
    const listEntries = () => area().value.split("\n").filter((some) => some.trim()).map((line) => readLine(line.trim()));
    window.hotlora.hasFolder = (folder) => Boolean(area()) && listEntries().some((entry) => entry.folder === folder);
    window.hotlora.addFolder = function (entry) {
        if (window.hotlora.hasFolder(entry.folder)) return;
        area().value = [area().value.trimEnd(), JSON.stringify(entry)].filter((line) => line).join("\n");
        area().dispatchEvent(new Event("input", { bubbles: true }));
    };

    window.hotlora.folders = setInterval(() => {
        const text = area();
        if (!text) return;
        if (!find("#hotlora_folders")) build(find("#hotlora_datasets"));
        if (text.value === written) return;
        written = text.value;
        for (const row of document.querySelectorAll("#hotlora_folders .hotlora-folder")) row.remove();
        for (const line of written.split("\n").filter((some) => some.trim())) addRow(readLine(line.trim()));
    }, 300);
})();
