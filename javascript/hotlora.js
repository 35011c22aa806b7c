// What the Train LoRA page needs of the browser: look for news while somebody looks at the page, and put a LoRA into the
// prompt box of txt2img. The same file in AUTOMATIC1111, and in the page that stands alone.

(function () {
    if (window.hotloraUse) return;

    const PERIOD_MS = 2000;
    const GIVE_UP_MS = 15000; // on an answer that does not come
    const TRUST_MS = 10000; // after an answer; later the server may be gone, and is asked whether it is there
    const LONGEST_WAIT_MS = 30000; // between two questions whether it is there again

    const root = () => (window.gradioApp ? window.gradioApp() : document);
    const find = (selector) => root().querySelector(selector);

    let askedAt = 0;
    let beatThen = "";
    let aliveAt = 0; // when the server was last known to be there, as the one that made this page
    let madeBy; // its own number, which a restarted one does not have
    let probing = false;
    let probeAt = 0;
    let probeWait = PERIOD_MS;

    function lookForNews() {
        const page = find("#hotlora_page");
        const tick = find("#hotlora_tick");
        const awaited = window.hotlora.isAwaited && window.hotlora.isAwaited();
        if (window.hotlora.isUploading()) return;
        if (!page || !tick || ((document.hidden || page.offsetParent === null) && !awaited)) return;
        const beat = (find("#hotlora_beat i") || {}).textContent || "";
        const now = Date.now();
        const waited = now - askedAt;
        if (askedAt && beat !== beatThen) {
            aliveAt = Math.max(aliveAt, askedAt);
        } else if (askedAt && waited < GIVE_UP_MS) {
            return; // it is thinking
        }
        if (waited < PERIOD_MS) return;
        if (now - aliveAt > TRUST_MS) {
            probe(now);
            return;
        }
        askedAt = now;
        beatThen = beat;
        tick.click();
    }
    setInterval(lookForNews, 250);

    // A cheap question, asked ever less often while there is no answer. Pressing the button instead would be an error in the server's
    // console each time, where it is just starting or has made its page anew.
    async function probe(now) {
        if (probing || now < probeAt) return;
        probing = true;
        try {
            const number = await askForNumber();
            if (madeBy === undefined) madeBy = number;
            if (number !== madeBy && !(await isSamePage())) {
                const sentence = root().querySelectorAll("#hotlora_outdated, #hotlora_outdated *"); // the class is on several of them
                for (const part of sentence) part.classList.remove("hotlora-hidden");
                probeWait = LONGEST_WAIT_MS;
            } else {
                madeBy = number;
                aliveAt = Date.now();
                askedAt = 0;
                probeWait = PERIOD_MS / 2;
            }
        } catch (error) {
            probeWait = Math.min(probeWait * 2, LONGEST_WAIT_MS);
        }
        probeAt = Date.now() + probeWait;
        probing = false;
    }

    async function ask(path) {
        const answer = await fetch(new URL(path, location.href), { cache: "no-store" });
        if (answer.status >= 500) throw new Error("not ready");
        return answer;
    }

    // Empty where this Gradio does not tell it.
    async function askForNumber() {
        const { api_prefix = "" } = window.gradio_config || {}; // newer ones have their own answers below a folder
        const answer = await ask(api_prefix.replace(/^\//, "") + (api_prefix && "/") + "app_id");
        const told = answer.ok ? await answer.json().catch(() => ({})) : {};
        return String(told.app_id || "");
    }

    // Whether a restarted server means the same by what this page would send it.
    async function isSamePage() {
        if (!window.gradio_config) return true;
        const answer = await ask("config");
        if (!answer.ok) throw new Error("not let in");
        return describePage(await answer.json()) === describePage(window.gradio_config);
    }

    function describePage(config) {
        const ours = config.components.filter((part) => ((part.props || {}).elem_id || "").startsWith("hotlora_"));
        return JSON.stringify([config.dependencies.length, ...ours.map((part) => [part.id, part.props.elem_id])]);
    }

    // AUTOMATIC1111 translates what is added to its page: not what a browser asks, nor a button that changes its words.
    const translate = (text) => (window.localization || {})[text] || text;

    // For the page's other scripts: find an element; look for news at once; whether the page has to be quiet (its own script knows).
    const lookNow = () => { askedAt = Math.min(askedAt, Date.now() - PERIOD_MS); };
    window.hotlora = { find, translate, lookNow, isUploading: () => false };

    window.hotloraConfirm = (question, name) => confirm(translate(question) + "\n\n" + name);

    function translateButtons() {
        const nodes = ["#hotlora_pause", "#hotlora_archive"].flatMap((button) => [...((find(button) || {}).childNodes || [])]);
        const words = nodes.filter((node) => node.nodeType === Node.TEXT_NODE);
        for (const node of words) {
            const translated = translate(node.data.trim());
            if (translated !== node.data.trim()) node.data = translated;
        }
    }
    setInterval(translateButtons, 250);

    const ofRun = (name) => name.replace(/-(step\d{8}|best|live)$/, "");

    function withoutRun(text, name) {
        const parts = text.split(/(<lora:[^>]*>)/);
        return parts.filter((part) => !part.startsWith("<lora:") || ofRun(part.split(":")[1]) !== ofRun(name)).join("").replace(/(,\s*)+,/g, ",").replace(/^\s*,\s*/, "");
    }

    // Without a tag: the run's, unless its LoRA is called for already. With one: that in place of any of the same run.
    window.hotloraUse = function (chosen) {
        const shown = find("#hotlora_tag");
        const prompt = find("#txt2img_prompt textarea");
        if (!shown || !prompt) return;
        const tag = chosen || shown.dataset.tag;
        const name = tag.split(":")[1];
        let text = prompt.value;
        if (chosen) text = withoutRun(text, name);
        if (!text.includes("<lora:" + name + ":")) {
            const missing = [shown.dataset.trigger, tag].filter((word) => word && !text.includes(word));
            text = [text.trim().replace(/,$/, ""), ...missing].filter((word) => word).join(", ");
            prompt.value = text;
            prompt.dispatchEvent(new Event("input", { bubbles: true }));
        }
        if (window.switch_to_txt2img) window.switch_to_txt2img();
        setTimeout(() => { prompt.scrollIntoView({ block: "center" }); }, 200); // the tab is drawn later; on a phone it is long
    };
})();
