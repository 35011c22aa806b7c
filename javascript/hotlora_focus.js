// What a picture's buckets keep of it, as frames over the picture in the editor, and the focus point that they follow: a click or the arrow
// keys move it, a button takes it away. Where the frames are is told by the picture's card in the album.

(function () {
    if (window.hotlora.moveFocus) return;

    const { find } = window.hotlora;
    const HEIGHT_PIXELS = 360;
    const KEPT = 30; // larger pictures, some 100 kB each
    const STEP = 0.02; // of a side, for an arrow key; five times as much with Shift
    const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const SAVED_MS = 500; // after the last key
    const ANSWERED_MS = 8000; // after that, what could not be saved is shown no longer

    const panel = () => find("#hotlora_cut .hotlora-cut");
    const frame = () => panel().querySelector(".hotlora-cut-picture");
    const place = () => find("#hotlora_editor_place .hotlora-place");
    const limit = (value, most) => Math.min(Math.max(value, 0), most);
    const readNumbers = (text) => text.split(" ").map(Number);
    const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

    // -- which picture -----------------------------------------------------------------------------------------------------

    function findCard() {
        const name = place() ? place().dataset.name : "";
        const cards = [...document.querySelectorAll("#hotlora_album .hotlora-edited [data-cuts]")];
        return cards.find((card) => card.dataset.name === name);
    }

    const readPoint = (card) => (card.dataset.focus ? readNumbers(card.dataset.focus) : null);

    const previews = new Map();

    function showPicture(card) {
        const small = card.querySelector("img");
        const key = small.dataset.thumbnail;
        const source = previews.get(key) || small.src;
        const image = frame().querySelector("img");
        if (source && image.src !== source) image.src = source;
        image.style.visibility = source ? "" : "hidden"; // until then it is another picture's
        if (previews.has(key)) return;
        previews.set(key, ""); // asked for
        window.hotlora.fetchThing({ preview: key }, (answer) => { previews.set(key, answer.preview || ""); });
        for (const old of previews.keys()) if (previews.size > KEPT) previews.delete(old);
    }

    // -- moving the point --------------------------------------------------------------------------------------------------

    let moved; // what the album does not show yet: { name, point, sentAt }
    let saving = 0;

    window.hotlora.moveFocus = function (point, delay = 0) {
        const card = findCard();
        if (!card) return;
        saveOthers(card.dataset.name);
        clearTimeout(saving);
        moved = { name: card.dataset.name, point: point && point.map((share) => Math.round(limit(share, 1) * 1e4) / 1e4) };
        saving = setTimeout(save, delay);
        draw();
    };

    function save() {
        clearTimeout(saving);
        moved.sentAt = Date.now();
        window.hotlora.askAlbum({ do: "focus", name: moved.name, point: moved.point });
    }

    // What was moved in another picture than this one.
    function saveOthers(name) {
        if (moved && !moved.sentAt && moved.name !== name) save();
    }

    function moveBy([x, y], times) {
        const card = findCard();
        if (!card) return;
        const [left, top] = findPoint(card) || [0.5, 0.5];
        window.hotlora.moveFocus([left + x * times, top + y * times], SAVED_MS);
    }

    // Where it is, or will be once the album is drawn anew.
    function findPoint(card) {
        const told = readPoint(card);
        if (moved && moved.name === card.dataset.name) {
            const isOld = moved.sentAt && Date.now() - moved.sentAt > ANSWERED_MS;
            if (!isOld && (!moved.sentAt || String(told) !== String(moved.point))) return moved.point;
            moved = undefined;
        }
        return told;
    }

    // -- drawing -----------------------------------------------------------------------------------------------------------

    // As pictures/buckets.py has it, but for parts of a pixel.
    function findFrames(card, point) {
        return card.dataset.cuts.split(";").map((cut) => {
            const [bucketWidth, bucketHeight, left, top, width, height] = readNumbers(cut);
            const isMoved = String(point) !== String(readPoint(card));
            const [x, y] = point || [0.5, 0.5];
            const at = isMoved ? [limit(x - width / 2, 1 - width), limit(y - height / 2, 1 - height)] : [left, top];
            return { label: `${bucketWidth}x${bucketHeight}`, left: at[0], top: at[1], width, height };
        });
    }

    const percent = (share) => `${+(100 * share).toFixed(2)}%`;

    function draw() {
        if (!panel()) return;
        const card = findCard();
        panel().classList.toggle("hotlora-hidden", !card);
        if (!card) return;
        const point = findPoint(card);
        const frames = findFrames(card, point);
        write(panel().querySelector("summary b"), frames.map(({ label, width, height }) => `${label}: ${Math.round(100 * width * height)} %`).join(" · "));
        panel().querySelector("button").disabled = !point;
        panel().querySelector(".hotlora-at-random").hidden = Boolean(point) || !card.dataset.random;
        if (!panel().open) return;
        showPicture(card);
        const [width, height] = readNumbers(card.dataset.size);
        Object.assign(frame().style, { aspectRatio: `${width} / ${height}`, width: `min(100%, ${Math.round((HEIGHT_PIXELS * width) / height)}px)` });
        drawFrames(frames, point);
    }

    function drawFrames(frames, point) {
        const marks = frames.map(({ left, top, width, height }) => ({ left, top, width, height, kind: "hotlora-kept" }));
        if (point) marks.push({ left: point[0], top: point[1], kind: "hotlora-point" });
        const drawn = [...frame().querySelectorAll("i")];
        drawn.slice(marks.length).forEach((mark) => mark.remove());
        marks.forEach(({ kind, ...sizes }, number) => {
            const mark = drawn[number] || frame().appendChild(document.createElement("i"));
            if (mark.className !== kind) mark.className = kind;
            mark.style.cssText = Object.entries(sizes).map(([side, share]) => `${side}: ${percent(share)}`).join("; ");
        });
    }

    document.addEventListener("click", (event) => {
        const within = event.target.closest && event.target.closest("#hotlora_cut button, #hotlora_cut .hotlora-cut-picture");
        if (!within) return;
        if (within.matches("button")) { window.hotlora.moveFocus(null); return; }
        const { left, top, width, height } = within.getBoundingClientRect();
        window.hotlora.moveFocus([(event.clientX - left) / width, (event.clientY - top) / height]);
    });

    document.addEventListener("keydown", (event) => {
        const by = STEPS[event.key];
        if (!by || event.target.className !== "hotlora-cut-picture" || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        moveBy(by, event.shiftKey ? 5 : 1);
    });

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null || !panel()) return;
        if (place()) saveOthers(place().dataset.name);
        draw();
    }, 150);
})();
