// The browser's notification when a run ends, fails or waits for its model: asked for once, on a click.

(function () {
    if (window.hotloraTell) return;

    const { find, translate } = window.hotlora;
    const KEPT = "hotlora_tell";
    const LIVE = ["preparing", "training", "drawing", "searching", "paused", "stopping"];

    function isWanted() {
        try {
            return localStorage.getItem(KEPT) === "yes" && window.Notification && Notification.permission === "granted";
        } catch (error) {
            return false; // this browser keeps nothing for this page
        }
    }

    // Where the page's looks for news go on while nobody looks at it.
    window.hotlora.isAwaited = () => Boolean(isWanted()) && Object.values(states).some((state) => LIVE.includes(state.status));

    window.hotloraTell = async function () {
        if (isWanted()) {
            localStorage.removeItem(KEPT);
        } else if (!window.Notification || !window.isSecureContext) {
            explain(translate("This browser shows notifications only of pages at localhost or with https. Open the page so."));
        } else if ((await Notification.requestPermission()) !== "granted") {
            explain(translate("The browser does not allow notifications of this page. Allow them beside its address, then press again."));
        } else {
            localStorage.setItem(KEPT, "yes");
        }
        showWish();
    };

    function explain(text) {
        const old = find("#hotlora_tell_refused");
        if (old) old.remove();
        const note = Object.assign(document.createElement("p"), { id: "hotlora_tell_refused", className: "hotlora-message hotlora-bad", textContent: text });
        note.setAttribute("role", "status");
        find("#hotlora_tell").closest(".hotlora-buttons").after(note);
    }

    function showWish() {
        const button = find("#hotlora_tell");
        if (!button) return;
        const pressed = String(Boolean(isWanted()));
        if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
        const refused = find("#hotlora_tell_refused");
        if (refused && pressed === "true") refused.remove();
    }

    let states = {}; // run -> its status, and whether it waits for its model, when it was seen last

    function tellChanges() {
        const now = {};
        for (const row of document.querySelectorAll("#hotlora_runs tr[data-status]")) {
            now[row.dataset.name] = { status: row.dataset.status, away: row.dataset.away === "yes" };
        }
        for (const [name, state] of Object.entries(now)) {
            const before = states[name];
            if (!before || !isWanted()) continue;
            if (LIVE.includes(before.status) && !LIVE.includes(state.status)) {
                show(name, state.status === "failed" ? translate("It has failed.") : translate("It has ended."));
            } else if (state.away && !before.away) {
                show(name, translate("It waits for its model."));
            }
        }
        states = now;
    }

    function show(name, text) {
        const shown = new Notification(name, { body: text, tag: `hotlora ${name}` });
        shown.onclick = () => { window.focus(); shown.close(); };
    }

    setInterval(() => {
        if (!find("#hotlora_page")) return;
        showWish();
        tellChanges();
    }, 1000);
})();
