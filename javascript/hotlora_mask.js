// A mask is drawn over the picture whose caption is open: striped red where the picture is not learned. It is drawn on at most 1024 pixels,
// sent as shades of grey (white is learned), and written as large as the picture by the server.

(function () {
    if (window.hotloraMask) return;

    const { find, translate } = window.hotlora;
    const GIVE_UP_MS = 60000;
    const DRAWN_MS = 5000; // the page draws an answer some time after it says that it is there
    const STRIPES = 80; // along the longer side
    const BRUSH = { least: 1, most: 40, first: 6 }; // percent of the longer side

    let dialog, parts; // its elements by name
    let stripes;
    let name, base, strokes, stroke; // of the picture: the mask as it was, what was drawn since, what is being drawn
    let isLearning = false; // what the brush does

    // -- asking the server -------------------------------------------------------------------------------------------------

    let number = 0;
    let asked = null;

    function ask(wish, take) {
        asked = { number: ++number, take, until: Date.now() + GIVE_UP_MS };
        window.hotloraMaskWish = JSON.stringify({ ...wish, name, number });
        find("#hotlora_mask_ask").click();
    }

    window.hotloraMaskAnswered = function () {
        if (asked) asked.until = Math.min(asked.until, Date.now() + DRAWN_MS);
    };

    setInterval(() => {
        if (!asked) return;
        const element = find("#hotlora_mask_answer [data-answer]");
        const answer = element ? JSON.parse(element.dataset.answer) : {};
        if (answer.number !== asked.number && Date.now() < asked.until) return;
        const { take } = asked;
        const isMissing = answer.number !== asked.number;
        asked = null;
        take(isMissing ? { error: translate("There was no answer. What went wrong stands above the page.") } : answer);
    }, 100);

    // -- the window --------------------------------------------------------------------------------------------------------

    const make = (tag, values, ...children) => {
        const made = Object.assign(document.createElement(tag), values);
        made.append(...children);
        return made;
    };

    function button(words, act) {
        const made = make("button", { type: "button", textContent: words });
        made.addEventListener("click", act);
        return made;
    }

    function build() {
        const unused = translate("Masks are not used until 'Learn under masks only' is switched on, in Advanced.");
        parts = {
            title: make("b", {}),
            unused: make("p", { className: "hotlora-warning", textContent: unused }),
            picture: make("img", { alt: "", draggable: false }),
            canvas: make("canvas", {}),
            ring: make("i", { className: "hotlora-ring" }),
            size: make("input", { type: "range", min: BRUSH.least, max: BRUSH.most, value: BRUSH.first }),
            hide: button(translate("Brush: not learned"), () => choose(false)),
            learn: button(translate("Brush: learned"), () => choose(true)),
            undo: button(translate("Undo"), undo),
            remove: button(translate("Remove the mask"), remove),
            save: button(translate("Save"), save),
            cancel: button(translate("Cancel"), cancel),
            status: make("p", { className: "hotlora-muted" }),
        };
        parts.status.setAttribute("role", "status");
        parts.stage = make("div", { className: "hotlora-stage" }, parts.picture, parts.canvas, parts.ring);
        const brushes = make("div", { className: "hotlora-choices" }, parts.hide, parts.learn,
            make("label", {}, make("span", { textContent: translate("Size of the brush") }), parts.size),
            button(translate("Learn all of it"), () => add({ learn: true })),
            button(translate("Learn none of it"), () => add({ learn: false })), parts.undo);
        const ends = make("div", { className: "hotlora-choices" }, parts.save, parts.cancel, parts.remove);
        dialog = make("dialog", { className: "hotlora-large hotlora-mask" }, parts.title, parts.unused,
            make("p", { textContent: translate("What is striped in red is not learned, and all the rest is.") }),
            parts.stage, brushes, parts.status, ends);
        dialog.setAttribute("aria-label", translate("Draw a mask"));
        dialog.addEventListener("cancel", (event) => { event.preventDefault(); cancel(); });
        dialog.addEventListener("keydown", followKeys);
        listenToPointer();
        document.body.append(dialog);
    }

    function followKeys(event) {
        const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
        const by = { "[": -1, "]": 1 }[event.key];
        if (by) parts.size.value = Number(parts.size.value) + by;
        if (isUndo) undo();
        if (by || isUndo) event.preventDefault();
        event.stopPropagation(); // the host has keys of its own
    }

    window.hotloraMask = function () {
        const place = find("#hotlora_editor_place .hotlora-place");
        if (!place || asked) return;
        name = place.dataset.name;
        ask({ do: "open" }, show); // a refusal stands above the page
    };

    async function show(answer) {
        if (answer.error) return;
        if (!dialog) build();
        const [picture, mask] = await Promise.all([answer.picture, answer.mask].map(load));
        const { naturalWidth: width, naturalHeight: height } = picture;
        parts.picture.src = answer.picture;
        Object.assign(parts.canvas, { width, height });
        Object.assign(parts.stage.style, { aspectRatio: `${width} / ${height}`, width: `min(100%, ${(55 * width) / height}vh)` });
        makeStripes(Math.max(width, height));
        parts.title.textContent = name;
        parts.unused.hidden = answer.is_used;
        parts.remove.hidden = !answer.has_file;
        parts.full = answer.size;
        [base, strokes, stroke] = [mask && readMask(mask, width, height), [], null];
        choose(false);
        setBusy(false);
        redraw();
        dialog.showModal();
        parts.hide.focus();
    }

    async function load(source) {
        if (!source) return null;
        const image = make("img", { src: source });
        await image.decode();
        return image;
    }

    const close = () => { dialog.close(); asked = null; };

    function cancel() {
        if (!strokes.length || confirm(translate("Throw away what was drawn?"))) close();
    }

    function setBusy(busy) {
        for (const control of dialog.querySelectorAll("button, input")) control.disabled = busy;
        parts.cancel.disabled = false;
        if (!busy) parts.undo.disabled = !strokes.length;
    }

    function choose(learning) {
        isLearning = learning;
        parts.learn.setAttribute("aria-pressed", String(learning));
        parts.hide.setAttribute("aria-pressed", String(!learning));
    }

    // -- drawing: how opaque the canvas is says how little is learned -----------------------------------------------------------

    const pen = () => parts.canvas.getContext("2d", { willReadFrequently: true });

    function makeStripes(longer) {
        const across = Math.max(1, Math.round(longer / STRIPES));
        const tile = make("canvas", { width: 2 * across, height: 2 * across });
        const brush = tile.getContext("2d");
        for (let x = 0; x < tile.width; x++) {
            for (let y = 0; y < tile.height; y++) {
                brush.fillStyle = (x + y) % tile.width < across ? "#e11d1d" : "#7f0f0f";
                brush.fillRect(x, y, 1, 1);
            }
        }
        stripes = brush.createPattern(tile, "repeat");
    }

    // From shades of grey to what is drawn over the picture.
    function readMask(image, width, height) {
        const canvas = make("canvas", { width, height });
        const brush = canvas.getContext("2d", { willReadFrequently: true });
        brush.drawImage(image, 0, 0);
        const pixels = brush.getImageData(0, 0, width, height);
        for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = 255 - pixels.data[at];
        brush.putImageData(pixels, 0, 0);
        return canvas;
    }

    function redraw() {
        const { width, height } = parts.canvas;
        pen().globalCompositeOperation = "source-over";
        pen().clearRect(0, 0, width, height);
        if (base) {
            pen().drawImage(base, 0, 0);
            pen().globalCompositeOperation = "source-in";
            pen().fillStyle = stripes;
            pen().fillRect(0, 0, width, height);
        }
        for (const drawn of strokes) draw(drawn);
        tell();
    }

    // A stroke from one of its points on; without points it is the whole picture.
    function draw({ learn, points, thick }, from = 0) {
        const brush = pen();
        brush.globalCompositeOperation = learn ? "destination-out" : "source-over";
        brush.fillStyle = brush.strokeStyle = stripes;
        if (!points) return brush.fillRect(0, 0, parts.canvas.width, parts.canvas.height);
        Object.assign(brush, { lineWidth: thick, lineCap: "round", lineJoin: "round" });
        brush.beginPath();
        brush.moveTo(...points[from]);
        if (points.length === 1) brush.lineTo(points[0][0] + 0.01, points[0][1]); // no length would be nothing drawn
        for (const point of points.slice(from + 1)) brush.lineTo(...point);
        brush.stroke();
    }

    function add(drawn) {
        strokes.push(drawn);
        if (!drawn.points) redraw();
        else tell();
    }

    function undo() {
        strokes.pop();
        redraw();
        if (document.activeElement === document.body || parts.undo.disabled) parts.hide.focus();
    }

    function tell() {
        parts.undo.disabled = !strokes.length;
        const { width, height } = parts.canvas;
        const { data } = pen().getImageData(0, 0, width, height);
        let hidden = 0;
        for (let at = 3; at < data.length; at += 4) hidden += data[at];
        const learned = Math.round(100 * (1 - hidden / 255 / (width * height)));
        const [fullWidth, fullHeight] = parts.full;
        const scaled = fullWidth > width ? ` · ${translate("Drawn small and saved as large as the picture:")} ${fullWidth} × ${fullHeight}` : "";
        parts.status.textContent = `${translate("Learned of this picture:")} ${learned} %${scaled}`;
    }

    // -- mouse, finger and pen -------------------------------------------------------------------------------------------------

    function findPoint(event) {
        const place = parts.canvas.getBoundingClientRect();
        const { width, height } = parts.canvas;
        return [((event.clientX - place.left) * width) / place.width, ((event.clientY - place.top) * height) / place.height];
    }

    const thickness = () => Math.max(1, (parts.size.value / 100) * Math.max(parts.canvas.width, parts.canvas.height));

    function moveRing(event) {
        const place = parts.canvas.getBoundingClientRect();
        const across = (thickness() * place.width) / parts.canvas.width;
        Object.assign(parts.ring.style, { left: `${event.clientX - place.left}px`, top: `${event.clientY - place.top}px`, width: `${across}px`, height: `${across}px` });
        parts.ring.hidden = false;
    }

    function listenToPointer() {
        const { canvas } = parts;
        canvas.addEventListener("pointerdown", (event) => {
            if (!event.isPrimary || event.button !== 0 || asked) return;
            event.preventDefault();
            canvas.setPointerCapture(event.pointerId);
            stroke = { learn: isLearning, thick: thickness(), points: [findPoint(event)] };
            draw(stroke);
        });
        canvas.addEventListener("pointermove", (event) => {
            if (!event.isPrimary) return;
            moveRing(event);
            if (!stroke) return;
            const from = stroke.points.length - 1;
            const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
            for (const move of moves.length ? moves : [event]) stroke.points.push(findPoint(move));
            draw(stroke, from);
        });
        const end = (event) => {
            if (!stroke || !event.isPrimary) return;
            add(stroke);
            stroke = null;
        };
        canvas.addEventListener("pointerup", end);
        canvas.addEventListener("pointercancel", end);
        canvas.addEventListener("pointerleave", () => { parts.ring.hidden = true; });
    }

    // -- how it ends -----------------------------------------------------------------------------------------------------------

    function writeMask() {
        const { width, height } = parts.canvas;
        const pixels = pen().getImageData(0, 0, width, height);
        for (let at = 0; at < pixels.data.length; at += 4) {
            pixels.data[at] = pixels.data[at + 1] = pixels.data[at + 2] = 255 - pixels.data[at + 3];
            pixels.data[at + 3] = 255;
        }
        const canvas = make("canvas", { width, height });
        canvas.getContext("2d").putImageData(pixels, 0, 0);
        return canvas.toDataURL("image/png");
    }

    const save = () => send({ do: "save", mask: writeMask() });

    function remove() {
        if (confirm(translate("Remove the mask of this picture? Undo brings it back."))) send({ do: "remove" });
    }

    function send(wish) {
        parts.status.textContent = translate("Saving …");
        setBusy(true);
        ask(wish, (answer) => {
            setBusy(false);
            if (answer.error) {
                parts.status.textContent = answer.error;
                return;
            }
            close();
            window.hotlora.lookAgain();
        });
    }
})();
