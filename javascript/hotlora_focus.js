// What is used of a picture, and what its buckets keep of that, as frames over the picture in the editor. There are two ways to change it: the
// focus point, by a click or the arrow keys, and the crop, dragged or by the arrow keys; a button takes each away. Where the frames are is told
// by the picture's card in the album.

(function () {
    if (window.hotlora.setFraming) return;

    const { find } = window.hotlora;
    const HEIGHT_PIXELS = 360;
    const KEPT = 30; // larger pictures, some 100 kB each
    const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const STEP = { focus: 0.02, crop: 0.01 }; // of a side, for an arrow key
    const FAR = 5; // times as much for the focus point, with Shift
    const SMALLEST = 0.02; // side of a crop
    const REACH_PIXELS = { mouse: 10, other: 24 }; // around a crop's sides
    const WHOLE = [0, 0, 1, 1];
    const SAVED_MS = 500; // after the last key
    const ANSWERED_MS = 8000; // after that, what could not be saved is shown no longer

    const panel = () => find("#hotlora_cut .hotlora-cut");
    const picture = () => panel().querySelector(".hotlora-cut-picture");
    const place = () => find("#hotlora_editor_place .hotlora-place");
    const limit = (value, most = 1, least = 0) => Math.min(Math.max(value, least), most);
    const readNumbers = (text) => text.split(" ").map(Number);
    const readShares = (card, way) => (card.dataset[way] ? readNumbers(card.dataset[way]) : null);
    const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

    let way = "focus"; // or crop

    // -- which picture -----------------------------------------------------------------------------------------------------

    function findCard() {
        const name = place() ? place().dataset.name : "";
        const cards = [...document.querySelectorAll("#hotlora_album .hotlora-edited [data-cuts]")];
        return cards.find((card) => card.dataset.name === name);
    }

    const previews = new Map();

    function showPicture(card) {
        const small = card.querySelector("img");
        const key = small.dataset.thumbnail;
        const source = previews.get(key) || (card.dataset.crop ? "" : small.src); // the small one is cropped
        const image = picture().querySelector("img");
        if (source && image.src !== source) Object.assign(image, { src: source, title: card.dataset.name });
        image.style.visibility = source || image.title === card.dataset.name ? "" : "hidden"; // until then it is another picture's
        if (previews.has(key)) return;
        previews.set(key, ""); // asked for
        window.hotlora.fetchThing({ preview: key }, (answer) => { previews.set(key, answer.preview || ""); });
        for (const old of previews.keys()) if (previews.size > KEPT) previews.delete(old);
    }

    // -- changing it -------------------------------------------------------------------------------------------------------

    let moved; // what the album does not show yet: { name, way, value, sentAt }
    let saving = 0;

    // Saved after the delay; without one only shown.
    window.hotlora.setFraming = function (value, delay) {
        const card = findCard();
        if (!card) return;
        saveOthers(card.dataset.name);
        clearTimeout(saving);
        moved = { name: card.dataset.name, way, value: value && value.map((share) => Math.round(limit(share) * 1e4) / 1e4) };
        if (delay !== undefined) saving = setTimeout(save, delay);
        draw();
    };

    function save() {
        clearTimeout(saving);
        moved.sentAt = Date.now();
        window.hotlora.askAlbum({ do: moved.way, name: moved.name, value: moved.value });
    }

    // What was changed in another picture than this one, or in the other way.
    function saveOthers(name) {
        if (moved && !moved.sentAt && !dragged && (moved.name !== name || moved.way !== way)) save();
    }

    // What was said, or will be once the album is drawn anew.
    function findSaid(card, what) {
        const told = readShares(card, what);
        if (moved && moved.name === card.dataset.name && moved.way === what) {
            const isOld = moved.sentAt && Date.now() - moved.sentAt > ANSWERED_MS;
            if (!isOld && (!moved.sentAt || String(told) !== String(moved.value))) return moved.value;
            moved = undefined;
        }
        return told;
    }

    function followKey(card, [x, y], isFar) {
        const step = STEP[way];
        if (way === "focus") {
            const [left, top] = findSaid(card, "focus") || [0.5, 0.5];
            const times = step * (isFar ? FAR : 1);
            return [left + x * times, top + y * times];
        }
        const [left, top, right, bottom] = findSaid(card, "crop") || WHOLE;
        if (isFar) return [left, top, limit(right + x * step, 1, left + SMALLEST), limit(bottom + y * step, 1, top + SMALLEST)];
        return moveCrop([left, top, right, bottom], x * step, y * step);
    }

    function moveCrop([left, top, right, bottom], byX, byY) {
        const [x, y] = [limit(byX, 1 - right, -left), limit(byY, 1 - bottom, -top)];
        return [left + x, top + y, right + x, bottom + y];
    }

    const orNone = (crop) => (String(crop) === String(WHOLE) ? null : crop);

    // -- dragging a crop ---------------------------------------------------------------------------------------------------

    let dragged; // nothing where none is: { follow, from, before }: what the crop becomes where the pointer is, where that was, and what was moved

    function locate({ clientX, clientY }) {
        const { left, top, width, height } = picture().getBoundingClientRect();
        return [(clientX - left) / width, (clientY - top) / height];
    }

    // A side or corner goes with the pointer; from within, the whole crop does; from elsewhere there is a new one.
    function beginDrag(event, card) {
        const crop = findSaid(card, "crop") || WHOLE;
        const from = locate(event);
        const { width, height } = picture().getBoundingClientRect();
        const reach = [width, height].map((pixels) => (REACH_PIXELS[event.pointerType] || REACH_PIXELS.other) / pixels);
        const isNear = (side) => Math.abs(from[side % 2] - crop[side]) <= reach[side % 2];
        const isWithin = [0, 1].every((axis) => from[axis] > crop[axis] - reach[axis] && from[axis] < crop[axis + 2] + reach[axis]);
        const sides = isWithin ? [0, 1].map((axis) => [axis, axis + 2].find(isNear)) : [];
        const stretch = (start, moving) => (to) => {
            const next = [...start];
            for (const side of moving) next[side] = limit(start[side] + to[side % 2] - from[side % 2]);
            return [Math.min(next[0], next[2]), Math.min(next[1], next[3]), Math.max(next[0], next[2]), Math.max(next[1], next[3])];
        };
        if (sides.some((side) => side !== undefined)) return stretch(crop, sides.filter((side) => side !== undefined));
        if (isWithin && orNone(crop)) return (to) => moveCrop(crop, to[0] - from[0], to[1] - from[1]);
        return stretch([...from, ...from].map((share) => limit(share)), [2, 3]);
    }

    function endDrag(to) {
        const { follow, before, from } = dragged;
        dragged = undefined;
        const [left, top, right, bottom] = follow(to);
        if (String(to) !== String(from) && right - left >= SMALLEST && bottom - top >= SMALLEST) {
            window.hotlora.setFraming(orNone([left, top, right, bottom]), 0);
        } else moved = before;
        draw();
    }

    // -- drawing -----------------------------------------------------------------------------------------------------------

    // As pictures/buckets.py has it, but for parts of a pixel; none where the buckets of a crop are not known yet.
    function findFrames(card, point, crop) {
        if (String(crop) !== String(readShares(card, "crop"))) return [];
        const [begin, above, end, below] = crop || WHOLE;
        const isMoved = String(point) !== String(readShares(card, "focus"));
        const [x, y] = point || [(begin + end) / 2, (above + below) / 2];
        return card.dataset.cuts.split(";").map((cut) => {
            const [bucketWidth, bucketHeight, left, top, width, height] = readNumbers(cut);
            const at = isMoved ? [limit(x - width / 2, end - width, begin), limit(y - height / 2, below - height, above)] : [left, top];
            return { label: `${bucketWidth}x${bucketHeight}`, left: at[0], top: at[1], width, height };
        });
    }

    const percent = (share) => `${+(100 * share).toFixed(2)}%`;

    function draw() {
        if (!panel()) return;
        const card = findCard();
        panel().classList.toggle("hotlora-hidden", !card);
        if (!card) return;
        const [point, crop, size] = [findSaid(card, "focus"), findSaid(card, "crop"), readNumbers(card.dataset.size)];
        const frames = findFrames(card, point, crop);
        const kept = frames.map(({ label, width, height }) => `${label}: ${Math.round(100 * width * height)} %`).join(" · ");
        const sides = (crop || WHOLE).map((share, side) => Math.round(share * size[side % 2]));
        if (kept) write(panel().querySelector("summary b"), kept);
        write(panel().querySelector("[data-when=crop] b"), `${sides[2] - sides[0]}x${sides[3] - sides[1]} px`);
        panel().querySelector(".hotlora-at-random").hidden = Boolean(point) || !card.dataset.random;
        for (const button of panel().querySelectorAll("[data-clear]")) button.disabled = !{ focus: point, crop }[button.dataset.clear];
        if (!panel().open) return;
        showPicture(card);
        Object.assign(picture().style, { aspectRatio: `${size[0]} / ${size[1]}`, width: `min(100%, ${Math.round((HEIGHT_PIXELS * size[0]) / size[1])}px)` });
        drawMarks(frames, point, crop || (way === "crop" ? WHOLE : null));
    }

    function drawMarks(frames, point, crop) {
        const marks = frames.map(({ left, top, width, height }) => ({ left, top, width, height, kind: "hotlora-kept" }));
        if (crop) {
            const [left, top, right, bottom] = crop;
            marks.push({ left, top, width: right - left, height: bottom - top, kind: "hotlora-crop" });
            const corners = way === "crop" ? [[left, top], [right, top], [left, bottom], [right, bottom]] : [];
            for (const [x, y] of corners) marks.push({ left: x, top: y, kind: "hotlora-corner" });
        }
        if (point) marks.push({ left: point[0], top: point[1], kind: "hotlora-point" });
        const drawn = [...picture().querySelectorAll("i")];
        drawn.slice(marks.length).forEach((mark) => mark.remove());
        marks.forEach(({ kind, ...sizes }, number) => {
            const mark = drawn[number] || picture().appendChild(document.createElement("i"));
            if (mark.className !== kind) mark.className = kind;
            mark.style.cssText = Object.entries(sizes).map(([side, share]) => `${side}: ${percent(share)}`).join("; ");
        });
    }

    // -- listening ---------------------------------------------------------------------------------------------------------

    function choose(chosen) {
        way = chosen;
        for (const button of panel().querySelectorAll("[data-way]")) button.setAttribute("aria-pressed", String(button.dataset.way === way));
        for (const part of panel().querySelectorAll("[data-when]")) part.hidden = part.dataset.when !== way;
        picture().classList.toggle("hotlora-cropping", way === "crop");
        draw();
    }

    const isOnPicture = (event) => Boolean(event.target.closest && event.target.closest("#hotlora_cut .hotlora-cut-picture"));

    document.addEventListener("click", (event) => {
        const button = event.target.closest && event.target.closest("#hotlora_cut button");
        if (button && button.dataset.way) choose(button.dataset.way);
        else if (button) window.hotlora.setFraming(null, 0);
        else if (way === "focus" && isOnPicture(event)) window.hotlora.setFraming(locate(event), 0);
    });

    document.addEventListener("pointerdown", (event) => {
        const card = way === "crop" && event.isPrimary && event.button === 0 && isOnPicture(event) && findCard();
        if (!card) return;
        if (moved && !moved.sentAt) save();
        dragged = { follow: beginDrag(event, card), from: locate(event), before: moved };
        picture().setPointerCapture(event.pointerId);
    });
    document.addEventListener("pointermove", (event) => { if (dragged && event.isPrimary) window.hotlora.setFraming(dragged.follow(locate(event))); });
    document.addEventListener("pointerup", (event) => { if (dragged && event.isPrimary) endDrag(locate(event)); });
    document.addEventListener("pointercancel", () => { if (dragged) endDrag(dragged.from); });

    document.addEventListener("keydown", (event) => {
        const by = STEPS[event.key];
        const card = by && isOnPicture(event) && findCard();
        if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        const value = followKey(card, by, event.shiftKey);
        window.hotlora.setFraming(way === "crop" ? orNone(value) : value, SAVED_MS);
    });

    setInterval(() => {
        const page = find("#hotlora_page");
        if (!page || document.hidden || page.offsetParent === null || !panel()) return;
        if (place()) saveOthers(place().dataset.name);
        draw();
    }, 150);
})();
