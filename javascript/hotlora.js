// What the Train LoRA page needs of the browser: look for news while somebody looks at the page, and put a LoRA into the
// prompt box of txt2img. The same file in AUTOMATIC1111, and in the page that stands alone.

(function () {
    if (window.hotloraUse) return;

    const PERIOD_MS = 2000;
    const GIVE_UP_MS = 15000; // on an answer that does not come: the server was restarted

    const root = () => (window.gradioApp ? window.gradioApp() : document);
    const find = (selector) => root().querySelector(selector);

    let askedAt = 0;
    let beatThen = "";

    function lookForNews() {
        const page = find("#hotlora_page");
        const tick = find("#hotlora_tick");
        if (!page || !tick || document.hidden || page.offsetParent === null) return;
        const beat = (find("#hotlora_beat i") || {}).textContent || "";
        const waited = Date.now() - askedAt;
        const answered = beat !== beatThen || askedAt === 0;
        if (waited < PERIOD_MS || (!answered && waited < GIVE_UP_MS)) return;
        askedAt = Date.now();
        beatThen = beat;
        tick.click();
    }
    setInterval(lookForNews, 250);

    // A press on a picture opens its caption. The album is drawn anew when that is saved: what was looked at stays in sight.
    let albumTop = 0;

    function pickPicture(event) {
        const card = event.target.closest && event.target.closest("#hotlora_album [data-name]");
        if (!card || (event.type === "keydown" && event.key !== "Enter")) return;
        window.hotloraPicked = card.dataset.name;
        albumTop = card.parentElement.scrollTop;
        find("#hotlora_pick").click();
    }
    document.addEventListener("click", pickPicture);
    document.addEventListener("keydown", pickPicture);

    window.hotloraGoBack = function () {
        requestAnimationFrame(() => {
            const album = find("#hotlora_album .hotlora-album");
            if (album) album.scrollTop = albumTop;
        });
    };

    // AUTOMATIC1111 translates what is added to its page: not what a browser asks, nor a button that changes its words.
    const translate = (text) => (window.localization || {})[text] || text;

    window.hotloraConfirm = (question, name) => confirm(translate(question) + "\n\n" + name);

    function translatePause() {
        const words = [...((find("#hotlora_pause") || {}).childNodes || [])].filter((node) => node.nodeType === Node.TEXT_NODE);
        for (const node of words) {
            const translated = translate(node.data.trim());
            if (translated !== node.data.trim()) node.data = translated;
        }
    }
    setInterval(translatePause, 250);

    window.hotloraUse = function () {
        const shown = find("#hotlora_tag");
        const prompt = find("#txt2img_prompt textarea");
        if (!shown || !prompt) return;
        const name = shown.dataset.tag.split(":")[1];
        const words = [shown.dataset.trigger, shown.dataset.tag].filter((word) => word);
        let text = prompt.value;
        if (!text.includes("<lora:" + name + ":")) {
            const missing = words.filter((word) => !text.includes(word));
            text = [text.trim().replace(/,$/, ""), ...missing].filter((word) => word).join(", ");
            prompt.value = text;
            prompt.dispatchEvent(new Event("input", { bubbles: true }));
        }
        if (window.switch_to_txt2img) window.switch_to_txt2img();
    };
})();
