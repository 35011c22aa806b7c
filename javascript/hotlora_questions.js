// Questions that a model has written: asks how far they are while they are written, and sends what is decided about rows, with the words of
// those that were changed. And chats: which of them are chosen.

(function () {
    if (window.hotloraReviewed) return;

    const { find } = window.hotlora;
    const PERIOD_MS = 1000;
    const SHOWN = 20; // rows of a page

    let ended = "0"; // the last writing whose rows the review shows
    let hasAsked = false; // once for what was written before this page was opened
    let scrolled = 0;
    let focusAt = -1; // the row to go on at, where the last one was decided by the keyboard

    const review = () => document.querySelector("#hotlora_review .hotlora-review");
    const rows = () => [...document.querySelectorAll("#hotlora_review [data-key]")];
    const words = (row) => [...row.querySelectorAll("[data-part]")].map((box) => box.value);

    function send(button, wish) {
        const shown = review();
        const told = shown ? shown.dataset : {};
        const changed = rows().filter((row) => row.dataset.changed).map((row) => [row.dataset.key, words(row)]);
        const list = shown && shown.querySelector("ul");
        scrolled = list ? list.scrollTop : 0;
        const now = { name: told.name || "", start: Number(told.start || 0), refused: told.refused === "1" };
        window.hotloraReview = JSON.stringify({ ...now, verdict: "", keys: [], texts: Object.fromEntries(changed), ...wish });
        find(button).click();
    }

    const ask = (wish) => send("#hotlora_review_send", wish);

    window.hotloraReviewed = function () {
        setTimeout(() => { // the page draws it after it says so
            const list = document.querySelector("#hotlora_review ul");
            if (list) list.scrollTop = scrolled;
            const all = rows();
            if (focusAt >= 0 && all.length) all[Math.min(focusAt, all.length - 1)].querySelector("textarea").focus();
            focusAt = -1;
        }, 100);
    };

    const decide = (row, verdict) => ask({ verdict, keys: [row.dataset.key] });

    const answers = {
        one: (button) => decide(button.closest("[data-key]"), button.dataset.verdict),
        all: (button) => ask({ verdict: button.dataset.verdict, keys: rows().map((row) => row.dataset.key) }),
        turn: (button) => { scrolled = 0; ask({ start: Number(review().dataset.start) + SHOWN * Number(button.dataset.by) }); },
        switch: () => ask({ start: 0, refused: review().dataset.refused !== "1" }),
        take: () => { window.hotloraTaken = review().dataset.folder; find("#hotlora_take_questions").click(); },
    };

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_review button[data-review]");
        if (button) answers[button.dataset.review](button);
        const choice = event.target.closest && event.target.closest("#hotlora_chats_list button[data-chats]");
        if (choice) tick(choice.dataset.chats === "all");
    });

    document.addEventListener("input", (event) => {
        const row = event.target.closest && event.target.closest("#hotlora_review [data-key]");
        if (row) row.dataset.changed = "1";
        if (event.target.matches && event.target.matches("#hotlora_chats_list [type=search]")) filter(event.target.value);
    });

    document.addEventListener("change", (event) => {
        const at = event.target;
        if (at.matches("#hotlora_review select")) ask({ name: at.value, start: 0, texts: {} });
        else if (at.closest("#hotlora_review [data-key]")) send("#hotlora_review_keep", {});
        if (at.closest("#hotlora_chats_list")) count();
    });

    document.addEventListener("keydown", (event) => {
        const row = event.target.closest && event.target.closest("#hotlora_review [data-key]");
        if (!row || event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || review().dataset.refused === "1") return;
        event.preventDefault();
        focusAt = rows().indexOf(row);
        decide(row, "accept");
    });

    // -- chats ---------------------------------------------------------------------------------------------------------

    const boxes = () => [...document.querySelectorAll("#hotlora_chats_list li input")];

    window.hotloraChosenChats = () => boxes().filter((box) => box.checked).map((box) => box.value);

    function filter(text) {
        const wanted = text.trim().toLowerCase();
        for (const box of boxes()) box.closest("li").hidden = !box.closest("li").textContent.toLowerCase().includes(wanted);
    }

    function tick(isChosen) {
        for (const box of boxes()) if (!isChosen || !box.closest("li").hidden) box.checked = isChosen;
        count();
    }

    function count() {
        const shown = document.querySelector("#hotlora_chats_list [data-chats=chosen]");
        if (shown) shown.textContent = window.hotloraChosenChats().length;
    }

    // -- how far -------------------------------------------------------------------------------------------------------

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null || !find("#hotlora_questions_tick")) return;
        const state = document.querySelector("#hotlora_questions_status [data-busy]");
        const isBusy = Boolean(state) && state.dataset.busy === "1";
        if (!hasAsked || isBusy) find("#hotlora_questions_tick").click();
        if (!hasAsked) ask({});
        hasAsked = true;
        if (state && !isBusy && state.dataset.number !== ended) { // however soon it was done
            ended = state.dataset.number;
            if (!rows().some((row) => row.contains(document.activeElement))) ask({ name: state.dataset.name });
        }
    }, PERIOD_MS);
})();
