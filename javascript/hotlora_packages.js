// A sentence that misses a package gets a button that adds it, where the page may do that.

(function () {
    if (window.hotloraPackageAdded) return;

    const { find, translate } = window.hotlora;
    const PERIOD_MS = 500;
    const SENTENCES = ".hotlora-bad, .hotlora-notes li, .hotlora-problem, .hotlora-columns";
    const MISSING = /the package ([a-z]+)(?:, which)? is missing/g;

    function offer(addable) {
        for (const note of document.querySelectorAll(`#hotlora_page :is(${SENTENCES}):not([data-offered])`)) {
            note.dataset.offered = "true";
            if (note.querySelector("[data-package]")) continue;
            for (const name of new Set([...note.textContent.matchAll(MISSING)].map((found) => found[1]))) {
                if (!addable.includes(name)) continue;
                const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${translate("Add the package")} ${name}` });
                button.dataset.package = name;
                const row = Object.assign(document.createElement("p"), { className: "hotlora-ways" });
                row.append(button);
                note.append(row);
            }
        }
    }

    const listButtons = () => document.querySelectorAll("#hotlora_page [data-package]");

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_page [data-package]");
        if (!button || button.disabled) return;
        if (!confirm(`${translate("Add this package to the program's own? No other one is moved.")}\n\n${button.dataset.package}`)) return;
        for (const other of listButtons()) other.disabled = true;
        button.textContent += " …";
        window.hotloraPackage = button.dataset.package;
        find("#hotlora_add_package").click();
    });

    window.hotloraPackageAdded = function () {
        for (const button of listButtons()) {
            button.disabled = false;
            button.textContent = button.textContent.replace(/ …$/, "");
        }
    };

    setInterval(() => {
        const told = find("#hotlora_addable [data-packages]");
        const page = find("#hotlora_page");
        if (told && page && !document.hidden && page.offsetParent !== null) offer(JSON.parse(told.dataset.packages));
    }, PERIOD_MS);
})();
