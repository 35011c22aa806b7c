// Uploads under Gradio 3.41. That throws away an upload's answer, and shows "Uploading..." for ever, where anything at all on its page
// changes between the drop and the answer. So this page is quiet meanwhile, and an upload that was lost all the same is made once more.

(function () {
    if (window.hotloraUploads) return;
    window.hotloraUploads = true;

    const { find } = window.hotlora;
    const LOST_MS = 1500; // the answer has come, and nothing has been made of it
    const MOST_TRIES = 4;

    let files = []; // those that are being uploaded
    let began = 0;
    let answered = 0;
    let tries = 0;

    const isPending = () => Boolean(find("#hotlora_upload .generating"));
    window.hotlora.isUploading = () => files.length > 0 && (isPending() || Date.now() - began < LOST_MS);

    function begin(list) {
        if (!list.length) return;
        tries = list.length === files.length && list.every((file, number) => file === files[number]) ? tries + 1 : 1;
        [files, began, answered] = [list, Date.now(), 0];
    }
    document.addEventListener("change", ({ target }) => target.matches("#hotlora_upload input[type=file]") && begin([...target.files]), true);
    document.addEventListener("drop", (event) => event.target.closest("#hotlora_upload") && begin([...event.dataTransfer.files]), true);

    new PerformanceObserver((list) => {
        const ours = list.getEntries().filter((entry) => entry.name.endsWith("/upload"));
        if (ours.some((entry) => performance.timeOrigin + entry.startTime >= began)) answered = Date.now();
    }).observe({ type: "resource" });

    setInterval(() => {
        if (!files.length || Date.now() - began < LOST_MS) return;
        if (!isPending()) files = [];
        else if (answered && Date.now() - answered > LOST_MS && tries < MOST_TRIES) again();
    }, 250);

    function again() {
        [began, answered] = [Date.now(), 0]; // quiet from here on
        find("#hotlora_upload button").click(); // its only one, which empties it
        setTimeout(() => {
            const [box, kept] = [find("#hotlora_upload input[type=file]"), new DataTransfer()];
            for (const file of files) kept.items.add(file);
            box.files = kept.files;
            box.dispatchEvent(new Event("change", { bubbles: true }));
        }, 200);
    }
})();
