// The album: a press on a picture opens its caption, and the list stays where it was. Arrow keys go from picture to picture, Ctrl-Enter
// saves and goes on; what the album says follows the options that it depends on.

(function () {
    if (window.hotloraOpened) return;

    const { find } = window.hotlora;
    const FOLLOWED = ["resolution", "trigger_word", "caption_prefix", "caption_suffix", "enable_bucket", "bucket_no_upscale",
        "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "resolutions", "crop", "on_bad_data", "max_token_length", "caption_separator"];

    const cards = () => [...document.querySelectorAll("#hotlora_album [data-name]")];
    const place = () => find("#hotlora_editor_place .hotlora-place");
    const box = () => find("#hotlora_caption textarea");
    const isOpen = () => box() && box().offsetParent !== null;

    let album; // as it was drawn last
    let first; // its first picture
    let albumTop = 0;
    let picked = "";
    let pickedAt = 0;
    let thenStep = 0; // where to go when what was written is saved
    let quietly = false; // what opens is open already: nothing moves

    function pick(card) {
        picked = window.hotloraPicked = card.dataset.name;
        pickedAt = Date.now();
        quietly = false;
        mark();
        find("#hotlora_pick").click();
    }

    function mark() {
        for (const card of cards()) {
            card.classList.toggle("hotlora-picked", card.dataset.name === picked);
            if (card.dataset.name === picked) card.setAttribute("aria-current", "true");
            else card.removeAttribute("aria-current");
        }
    }

    document.addEventListener("click", (event) => {
        if (event.target.closest && event.target.closest("#hotlora_look")) followed = readOptions();
        const card = event.target.closest && event.target.closest("#hotlora_album [data-name]");
        if (card && !window.hotlora.choose(event, card)) pick(card);
    });

    document.addEventListener("keydown", (event) => {
        const card = event.target.closest && event.target.closest("#hotlora_album [data-name]");
        if (card && event.key === "Enter" && !isAside()) pick(card);
        const across = card ? countAcross(card) : 0;
        const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
        if (card && by) {
            const next = cards()[cards().indexOf(card) + by];
            if (next) next.focus();
            event.preventDefault();
        }
        if (event.target === box() && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            window.hotloraStep(1);
        }
    });

    const isAside = () => find("#hotlora_album .hotlora-album").dataset.aside === "1";

    // How many cards stand side by side.
    function countAcross(card) {
        const all = [...card.parentElement.querySelectorAll("[data-name]")];
        return all.filter((other) => other.offsetTop === all[0].offsetTop).length;
    }

    const isChanged = () => isOpen() && place() && box().value.trim() !== place().dataset.text.trim();

    // What was written is saved before another picture is opened; where that is refused, nothing is left.
    window.hotloraStep = function (by) {
        if (!isChanged()) return step(by);
        thenStep = by;
        find("#hotlora_save_caption").click();
    };

    function step(by) {
        const all = cards();
        const at = all.findIndex((card) => card.dataset.name === picked);
        const next = all[at + by];
        if (at >= 0 && !next) window.hotlora.turnPage(by, () => pickEnd(by));
        if (at < 0 || !next) return;
        next.scrollIntoView({ block: "nearest" });
        pick(next);
    }

    function pickEnd(by) {
        const all = cards();
        const card = all[by > 0 ? 0 : all.length - 1];
        card.scrollIntoView({ block: "nearest" });
        pick(card);
    }

    // What a button or Undo has made of the caption that is open; not of one that somebody has begun to change.
    window.hotlora.readAgain = function () {
        if (!isOpen() || isChanged() || isAside()) return;
        const name = place().dataset.name;
        const card = cards().find((other) => other.dataset.name === name);
        if (!card || (picked && picked !== name)) return; // another one is about to open
        pick(card);
        quietly = true;
    };

    window.hotloraOpened = function () {
        const stays = quietly;
        quietly = false;
        setTimeout(() => { // the page draws it after it says so
            show();
            if (stays) return;
            const editor = find("#hotlora_editor");
            if (editor && editor.getBoundingClientRect().bottom > window.innerHeight) editor.scrollIntoView({ block: "nearest" });
            if (isOpen()) box().focus({ preventScroll: true });
        }, 100);
    };

    function show() {
        const [shown, all] = [place(), cards()];
        if (!shown) return;
        const at = all.findIndex((card) => card.dataset.name === shown.dataset.name);
        const picture = at >= 0 && all[at].querySelector("img");
        const image = shown.querySelector("img");
        image.hidden = !picture || !picture.src;
        if (picture && picture.src && image.src !== picture.src) image.src = picture.src;
        const album = at >= 0 && all[at].parentElement.dataset;
        const told = album ? `${Number(album.start) + at + 1} / ${album.shown}` : "";
        const where = shown.querySelector("span");
        if (where.textContent !== told) where.textContent = told;
    }

    document.addEventListener("scroll", (event) => {
        if (event.target === album) albumTop = album.scrollTop;
    }, true);

    // However late it is drawn anew, an album of the same pictures stands where it stood.
    function keepPlace() {
        const drawn = find("#hotlora_album .hotlora-album");
        if (drawn && drawn !== album) {
            const [card] = cards();
            const name = card ? card.dataset.name : "";
            if (name === first) drawn.scrollTop = albumTop;
            [album, first, albumTop] = [drawn, name, drawn.scrollTop];
        }
        mark();
        show();
    }

    let holder;

    function watchAlbum() {
        const now = find("#hotlora_album");
        if (!now || now === holder) return;
        holder = now;
        new MutationObserver(keepPlace).observe(holder, { childList: true, subtree: true });
        keepPlace();
    }

    window.hotloraSaved = function () {
        const by = thenStep;
        thenStep = 0;
        if (by) stepWhenSaved(by, 50);
    };

    // The page draws what was saved later than it says so, on a busy machine much later; what was refused stays open.
    function stepWhenSaved(by, looks) {
        setTimeout(() => {
            if (!isChanged()) step(by);
            else if (looks) stepWhenSaved(by, looks - 1);
        }, 100);
    }

    // -- following the options -----------------------------------------------------------------------------------------

    let followed; // the options that the album was drawn by
    let before;

    function readOptions() {
        return JSON.stringify(FOLLOWED.map((name) => {
            const input = find(`#hotlora_${name} input, #hotlora_${name} textarea`);
            return !input ? null : input.type === "checkbox" ? input.checked : input.value;
        }));
    }

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null) return;
        watchAlbum();
        const now = readOptions();
        if (!cards().length) {
            followed = now;
        } else if (now !== followed && now === before && !window.hotlora.isUploading()) { // nobody is typing
            followed = now;
            window.hotlora.lookAgain();
        }
        before = now;
        if (!isOpen() && Date.now() - pickedAt > 5000) picked = "";
        mark();
        show();
    }, 500);
})();
