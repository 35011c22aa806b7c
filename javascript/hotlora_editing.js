// The album as people work on it: a filter, pages, choosing many pictures, what is done with them, small pictures when they are looked at,
// tags that complete themselves, and how long a caption is. The server draws cards; this adds everything that it has already.

(function () {
    if (window.hotlora.turnPage) return;

    const { find } = window.hotlora;
    const TYPING_MS = 300;
    const TAGS_SHOWN = 60;
    const SUGGESTED = 8;
    const PICTURES_AT_ONCE = 24;
    const PICTURES_KEPT = 4000;

    const album = () => find("#hotlora_album .hotlora-edited");
    const cards = () => [...document.querySelectorAll("#hotlora_album .hotlora-edited [data-name]")];
    const tools = () => find("#hotlora_tools .hotlora-tools");
    const box = () => find("#hotlora_caption textarea");
    const read = (selector) => (find(selector) || {}).value || "";
    const setText = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };

    // -- asking the server: one question at a time, because a button that waits takes no second press ------------------------

    let asking = null;
    let start = 0; // of the page that was asked for last
    const waiting = [];

    function ask(wish) {
        if (wish.do === "look") { // an older look that has not begun is no longer wanted, beyond what this one does not say
            const old = waiting.findIndex((other) => other.do === "look");
            const left = old >= 0 ? waiting.splice(old, 1)[0] : { kept: true };
            wish = { ...left, ...wish, kept: Boolean(left.kept && wish.kept), then: wish.then || left.then };
        }
        waiting.push(wish);
        askNext();
    }

    function askNext() {
        if (asking || !waiting.length) return;
        asking = waiting.shift();
        if (asking.do === "look") {
            asking = { query: read("#hotlora_filter"), start, aside: find("#hotlora_aside").checked, ...asking };
            start = asking.start;
        }
        window.hotloraAsk = JSON.stringify({ ...asking, then: undefined });
        find("#hotlora_ask").click();
    }

    window.hotloraAsked = function () {
        const done = asking;
        asking = null;
        if (done && done.do !== "look") window.hotlora.lookAgain(done.do === "focus" ? null : window.hotlora.readAgain);
        else if (done && done.then) setTimeout(done.then, 150); // the page draws later than it says
        askNext();
    };

    const look = (changed) => ask({ do: "look", ...changed });

    // The same pictures, by the options and files as they are now.
    window.hotlora.lookAgain = function (then) {
        if (album()) look({ kept: true, then });
        else find("#hotlora_look_again").click();
    };

    window.hotlora.turnPage = function (by, then) {
        const { start: from, shown } = album().dataset; // as it is now: newer Gradios change the album that is there
        const to = by > 0 ? Number(from) + cards().length : Number(from) - 1;
        if (to < 0 || to >= Number(shown)) return;
        const whenDrawn = (looks) => { // the page draws later than it says
            if (album() && album().dataset.start !== from) then();
            else if (looks) setTimeout(() => whenDrawn(looks - 1), 50);
        };
        look({ start: to, kept: true, then: then && (() => whenDrawn(600)) });
    };

    // -- fetching small things ---------------------------------------------------------------------------------------------

    let fetching = null;
    let number = 0;
    let fetchedAt = 0;
    const toFetch = [];

    function fetchThing(wish, take) {
        toFetch.push({ wish, take });
        fetchNext();
    }

    function fetchNext() {
        if (fetching || !toFetch.length) return;
        fetching = toFetch.shift();
        fetchedAt = Date.now();
        fetching.number = ++number;
        window.hotloraFetch = JSON.stringify({ ...fetching.wish, number });
        find("#hotlora_fetch").click();
    }

    window.hotloraFetched = takeAnswer;
    Object.assign(window.hotlora, { askAlbum: ask, fetchThing });

    function takeAnswer() {
        const element = fetching && find("#hotlora_fetched [data-answer]");
        const answer = element ? JSON.parse(element.dataset.answer) : {};
        if (!fetching || (answer.number !== fetching.number && Date.now() - fetchedAt < 10000)) return;
        const done = fetching;
        fetching = null;
        if (answer.number === done.number) done.take(answer);
        fetchNext();
    }

    // -- small pictures ----------------------------------------------------------------------------------------------------

    const pictures = new Map();
    let isFetchingPictures = false;

    function isNearView(image) {
        const place = image.getBoundingClientRect();
        const frame = image.closest(".hotlora-album").getBoundingClientRect();
        return place.bottom > frame.top - 400 && place.top < frame.bottom + 400;
    }

    function showPictures() {
        const images = [...document.querySelectorAll("#hotlora_album img[data-thumbnail]:not([src])")];
        for (const image of images) {
            const known = pictures.get(image.dataset.thumbnail);
            if (known) image.src = known;
        }
        if (isFetchingPictures) return;
        const keys = images.filter((image) => !pictures.has(image.dataset.thumbnail) && isNearView(image)).map((image) => image.dataset.thumbnail);
        if (!keys.length) return;
        isFetchingPictures = true;
        fetchThing({ thumbnails: keys.slice(0, PICTURES_AT_ONCE) }, (answer) => {
            for (const [key, source] of Object.entries(answer.thumbnails || {})) pictures.set(key, source);
            for (const key of pictures.keys()) if (pictures.size > PICTURES_KEPT) pictures.delete(key);
        });
    }

    // -- choosing ----------------------------------------------------------------------------------------------------------

    let chosen = new Set();
    let anchor = "";

    // A click on the box, one with Ctrl or Shift, and any where pictures are left out choose a card; returns whether it was one of these.
    window.hotlora.choose = function (event, card) {
        if (!card.closest(".hotlora-edited")) return false;
        const isBox = event.target.matches("input");
        if (!isBox && !event.ctrlKey && !event.metaKey && !event.shiftKey && album().dataset.aside !== "1") return false;
        const all = cards().map((other) => other.dataset.name);
        const name = card.dataset.name;
        if (event.shiftKey && all.includes(anchor)) {
            const [first, last] = [all.indexOf(anchor), all.indexOf(name)].sort((a, b) => a - b);
            for (const between of all.slice(first, last + 1)) chosen.add(between);
            window.getSelection().removeAllRanges();
        } else if (chosen.has(name)) {
            chosen.delete(name);
        } else {
            chosen.add(name);
        }
        anchor = name;
        markChosen();
        return true;
    };

    function markChosen() {
        for (const card of cards()) {
            const isChosen = chosen.has(card.dataset.name);
            card.classList.toggle("hotlora-chosen", isChosen);
            card.querySelector("input").checked = isChosen;
        }
        showCounts();
    }

    function showCounts() {
        const { dataset } = album();
        setText(find("#hotlora_shown"), `${dataset.shown} / ${dataset.aside === "1" ? dataset.leftOut : dataset.count}`);
        setText(find("#hotlora_chosen"), String(chosen.size));
        const button = (name) => tools().querySelector(`[data-do=${name}]`);
        const [some, all] = button("change").querySelectorAll("span");
        some.hidden = !chosen.size;
        all.hidden = !some.hidden;
        setText(button("change").querySelector("b"), chosen.size ? String(chosen.size) : dataset.shown);
        setText(button("undo").querySelector("b"), dataset.steps === "0" ? "" : dataset.steps);
        setText(find("#hotlora_aside").parentElement.querySelector("b"), dataset.leftOut);
        button("undo").disabled = dataset.steps === "0";
        button("change").disabled = dataset.aside === "1" || dataset.shown === "0";
        button("leave").disabled = button("back").disabled = !chosen.size;
        button("leave").hidden = dataset.aside === "1";
        button("back").hidden = dataset.aside !== "1";
    }

    const ACTIONS = {
        all: () => fetchThing({ names: true }, (answer) => { chosen = new Set(answer.names || []); markChosen(); }),
        none: () => { chosen = new Set(); markChosen(); },
        undo: () => ask({ do: "undo" }),
        change: () => ask({ do: "change", operation: read("#hotlora_operation"), text: read("#hotlora_change_text"), by: read("#hotlora_change_by"),
            names: chosen.size ? [...chosen] : null }),
        leave: () => { ask({ do: "leave", names: [...chosen] }); chosen = new Set(); },
        back: () => { ask({ do: "back", names: [...chosen] }); chosen = new Set(); },
    };

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_tools [data-do], #hotlora_pager [data-turn], #hotlora_tags [data-tag]");
        if (!button || button.disabled) return;
        if (button.dataset.do) ACTIONS[button.dataset.do]();
        else if (button.dataset.turn) window.hotlora.turnPage(Number(button.dataset.turn));
        else filterBy(button.dataset.tag);
    });

    document.addEventListener("keydown", (event) => {
        const card = event.target.closest && event.target.closest("#hotlora_album .hotlora-edited [data-name]");
        if (!card || event.key !== " ") return;
        event.preventDefault();
        window.hotlora.choose({ target: card.querySelector("input"), shiftKey: event.shiftKey }, card);
    });

    // -- filter and tags ---------------------------------------------------------------------------------------------------

    let typing = 0;
    let tagsText = "";
    let tags = [];

    const searchLater = () => {
        clearTimeout(typing);
        typing = setTimeout(() => { chosen = new Set(); look({ start: 0 }); }, TYPING_MS);
    };

    function filterBy(tag) {
        const term = /[\s"|]/.test(tag) ? `tag:"${tag.replace(/"/g, "")}"` : `tag:${tag}`;
        const filter = find("#hotlora_filter");
        const has = filter.value.split(term).length > 1;
        filter.value = (has ? filter.value.replace(term, "") : `${filter.value} ${term}`).replace(/\s+/g, " ").trim();
        searchLater();
    }

    document.addEventListener("input", (event) => {
        if (event.target.id === "hotlora_filter") searchLater();
        if (event.target.id === "hotlora_aside") { chosen = new Set(); look({ start: 0 }); }
        if (event.target.id === "hotlora_operation") showFields();
        if (event.target === box()) { countLater(); suggest(); }
    });

    function showFields() {
        const operation = read("#hotlora_operation");
        find("#hotlora_change_text").hidden = ["sort", "drop_doubles", "letters", "trigger"].includes(operation);
        find("#hotlora_change_by").hidden = !["replace", "pattern"].includes(operation);
    }

    function showTags() {
        const text = album().dataset.tags;
        if (text !== tagsText) {
            tagsText = text;
            tags = JSON.parse(text);
            const make = (name, values, ...children) => { const made = Object.assign(document.createElement(name), values); made.append(...children); return made; };
            const drawn = tags.slice(0, TAGS_SHOWN).map(([tag, count]) => {
                const button = make("button", { type: "button" }, make("span", { textContent: tag }), make("b", { textContent: count }));
                button.dataset.tag = tag;
                return button;
            });
            find("#hotlora_tags").replaceChildren(...drawn);
            find("#hotlora_known_tags").replaceChildren(...tags.map(([tag]) => make("option", { value: tag })));
        }
        const filter = read("#hotlora_filter").toLowerCase();
        for (const button of document.querySelectorAll("#hotlora_tags [data-tag]")) {
            const tag = button.dataset.tag.toLowerCase();
            button.setAttribute("aria-pressed", String(filter.includes(`tag:"${tag}"`) || ` ${filter} `.includes(` tag:${tag} `)));
        }
    }

    // -- the editor: how long a caption is, and its tags -------------------------------------------------------------------

    let counting = 0;
    let counted; // the text whose tokens are shown

    function countLater() {
        clearTimeout(counting);
        counting = setTimeout(countTokens, TYPING_MS);
    }

    function countTokens() {
        const text = box().value;
        counted = text;
        fetchThing({ text }, (answer) => {
            const told = find("#hotlora_editor_place em");
            const most = Number(album() ? album().dataset.mostTokens : 0);
            if (!told || answer.tokens === undefined || !most || box().value !== text) return; // another caption is open by now
            setText(told, `${answer.tokens} / ${most}`);
            told.classList.toggle("hotlora-over", answer.tokens > most);
        });
    }

    let suggestions = [];
    let marked = -1;

    // What is typed between two commas, up to the caret.
    function findPart() {
        const { value, selectionStart } = box();
        const start = Math.max(...[",", "\n", "，"].map((sign) => value.lastIndexOf(sign, selectionStart - 1))) + 1;
        return { start, typed: value.slice(start, selectionStart).trimStart().toLowerCase(), end: selectionStart };
    }

    function suggest() {
        const { typed } = findPart();
        const begins = tags.filter(([tag]) => tag.toLowerCase().startsWith(typed) && tag.toLowerCase() !== typed);
        const holds = tags.filter(([tag]) => !tag.toLowerCase().startsWith(typed) && tag.toLowerCase().includes(typed));
        suggestions = typed ? [...begins, ...holds].slice(0, SUGGESTED).map(([tag]) => tag) : [];
        marked = -1;
        drawSuggestions();
    }

    function drawSuggestions() {
        let list = document.getElementById("hotlora_suggestions");
        if (!list) {
            list = Object.assign(document.createElement("ul"), { id: "hotlora_suggestions" });
            list.addEventListener("mousedown", (event) => { // before the box loses the caret
                event.preventDefault();
                if (event.target.dataset.tag) take(event.target.dataset.tag);
            });
            document.body.append(list);
        }
        list.hidden = !suggestions.length;
        list.replaceChildren(...suggestions.map((tag, place) => {
            const item = Object.assign(document.createElement("li"), { textContent: tag });
            item.dataset.tag = tag;
            item.setAttribute("aria-selected", String(place === marked));
            return item;
        }));
        if (list.hidden) return;
        const place = box().getBoundingClientRect();
        Object.assign(list.style, { left: `${place.left + window.scrollX}px`, top: `${place.bottom + window.scrollY}px`, maxWidth: `${place.width}px` });
    }

    function take(tag) {
        const { start, end } = findPart();
        const { value } = box();
        const before = value.slice(0, start) + (start && value[start - 1] !== "\n" ? " " : "") + tag;
        box().value = before + value.slice(end);
        box().setSelectionRange(before.length, before.length);
        box().dispatchEvent(new Event("input", { bubbles: true }));
        suggestions = [];
        drawSuggestions();
    }

    document.addEventListener("keydown", (event) => {
        if (event.target !== box() || !suggestions.length || event.isComposing) return;
        const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        const isTaken = event.key === "Tab" || (event.key === "Enter" && marked >= 0 && !event.ctrlKey && !event.metaKey);
        if (by) {
            marked = (marked + by + suggestions.length + (marked < 0 && by < 0 ? 1 : 0)) % suggestions.length;
            drawSuggestions();
        } else if (isTaken) {
            take(suggestions[Math.max(marked, 0)]);
        } else if (event.key === "Escape" || event.key === "Enter") {
            suggestions = [];
            drawSuggestions();
        }
        if (by || isTaken) event.preventDefault();
    }, true);

    document.addEventListener("focusout", (event) => {
        if (event.target !== box()) return;
        suggestions = [];
        drawSuggestions();
    });

    // -- keeping up with what is drawn -------------------------------------------------------------------------------------

    // Newer Gradios put what is new into the album that is there, without what it had not when it came: as this mark.
    function followAlbum() {
        const { dataset } = album();
        dataset.followed = "1";
        for (const part of [tools(), find("#hotlora_pager .hotlora-pager")]) part.classList.remove("hotlora-hidden");
        const isAsking = asking || waiting.length;
        if (!isAsking) start = Number(dataset.start);
        const isBusy = isAsking || document.activeElement === find("#hotlora_filter");
        if (!isBusy && find("#hotlora_filter").value !== dataset.query) find("#hotlora_filter").value = dataset.query;
        if (!isBusy) find("#hotlora_aside").checked = dataset.aside === "1";
        const first = Number(dataset.start);
        find("#hotlora_pager .hotlora-pager").hidden = Number(dataset.shown) <= cards().length;
        setText(find("#hotlora_pager b"), `${first + 1}–${first + cards().length} / ${dataset.shown}`);
        showFields();
        markChosen();
    }

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null || !tools()) return;
        takeAnswer();
        if (!album()) return;
        if (!album().dataset.followed) followAlbum();
        showTags();
        isFetchingPictures = isFetchingPictures && Boolean(fetching || toFetch.length);
        showPictures();
        const open = box() && box().offsetParent !== null;
        const told = find("#hotlora_editor_place em");
        if (open && told && !told.textContent && counted !== box().value && !fetching) countTokens();
    }, 100);
})();
