// Live refresh, relative times and keyboard shortcuts. Every page works without it.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Times: pages contain absolute times, so that their bytes do not change; they are shown as ages.
  const age = (seconds) => {
    const past = Math.max(0, seconds);
    if (past < 60) return `${Math.floor(past)} s`;
    if (past < 3600) return `${Math.floor(past / 60)} min`;
    if (past < 172800) return `${Math.floor(past / 3600)} h`;
    return `${Math.floor(past / 86400)} d`;
  };
  const tick = () => {
    const now = Date.now() / 1000;
    for (const time of all("time[datetime]")) {
      const at = Date.parse(time.dateTime) / 1000;
      if (!Number.isFinite(at)) continue;
      if (!time.title) time.title = time.textContent;
      const text = time.dataset.age === "for" ? age(now - at) : `${age(now - at)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };
  tick();
  setInterval(tick, 1000);

  // The command that reproduces a failure can be copied with a button. Without the clipboard it is text that can be selected.
  const copyable = () => {
    if (!navigator.clipboard) return;
    for (const code of all(".repro")) {
      if (code.nextElementSibling?.matches("button")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy the command");
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(code.textContent);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code);
          button.textContent = "Selected";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      code.after(button);
    }
  };
  copyable();

  // A growing log: the server sends each new line.
  const follow = () => {
    const con = $(".con[data-follow]");
    if (!con) return;
    const last = () => Number(con.lastElementChild?.id.slice(1) || 0);
    const append = (lines) => {
      const bottom = innerHeight + scrollY > document.body.scrollHeight - 80;
      const batch = document.createDocumentFragment();
      for (const [number, kind, stamp, text] of lines) {
        // An incomplete line is sent again, whole.
        document.getElementById(`L${number}`)?.remove();
        const span = document.createElement("span");
        const link = document.createElement("a");
        span.id = `L${number}`;
        if (kind) span.className = kind;
        link.href = `#L${number}`;
        link.textContent = number;
        span.append(link);
        if (stamp) {
          const i = document.createElement("i");
          i.textContent = stamp;
          span.append(i);
        }
        span.append(text);
        batch.append(span);
      }
      con.append(batch);
      while (con.childElementCount > 20000) con.firstElementChild.remove();
      if (bottom && last()) scrollTo({ top: document.body.scrollHeight });
    };
    const source = new EventSource(con.dataset.follow);
    source.onmessage = (event) => append(JSON.parse(event.data));
    source.addEventListener("end", () => {
      source.close();
      location.reload();
    });
  };
  follow();

  // Live pages: fetch the same address; for an unchanged page the server sends only 304.
  const live = () => Number(document.body.dataset.live || 0);
  let busy = false;
  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const reply = await fetch(location.href, { cache: "no-cache", headers: { accept: "text/html" } });
      if (!reply.ok) return;
      const text = await reply.text();
      if (text === refresh.last) return;
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = $("main", page);
      if (!fresh) return;
      const here = $("main");
      const folds = new Map(all("details[id]", here).map((d) => [d.id, d.open]));
      const focused = document.activeElement.matches("summary") && document.activeElement.closest("details[id]")?.id;
      const row = $(".at", here);
      const at = row && row.id;
      const typing = here.contains(document.activeElement) && document.activeElement.matches("input");
      if (typing) return;
      refresh.last = text;
      here.replaceChildren(...fresh.childNodes);
      for (const fold of all("details[id]", here)) fold.open = folds.get(fold.id) ?? fold.open;
      if (focused) $("summary", document.getElementById(focused) ?? undefined)?.focus({ preventScroll: true });
      if (at) document.getElementById(at)?.classList.add("at");
      document.title = page.title;
      document.body.dataset.live = page.body.dataset.live || "0";
      tick();
      copyable();
      follow();
    } catch {
      // The server is unreachable; the next round tries again.
    } finally {
      busy = false;
    }
  };
  const round = () => {
    const seconds = live();
    if (seconds > 0) setTimeout(() => refresh().finally(round), seconds * 1000);
  };
  round();

  // Keys: j and k move through the rows, Enter opens, / searches, u goes up, as the footer of each page explains.
  const rows = () => all("[data-row]").filter((row) => row.checkVisibility?.() ?? true);
  const select = (row) => {
    for (const old of all(".at")) old.classList.remove("at");
    row.classList.add("at");
    row.scrollIntoView({ block: "nearest" });
    (row.matches("summary") ? row : $("[data-open]", row) ?? $("a[href]", row))?.focus({ preventScroll: true });
  };
  const step = (by) => {
    const list = rows();
    if (!list.length) return;
    const now = list.findIndex((row) => row.classList.contains("at"));
    const next = now < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(list.length - 1, Math.max(0, now + by));
    select(list[next]);
  };
  // The list of the keys, as a dialog. Without the script it unfolds in the footer.
  const help = () => {
    const keys = $("#keys > dl");
    if (!keys) return;
    const dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.setAttribute("aria-label", "Keyboard");
    const form = document.createElement("form");
    const close = document.createElement("button");
    form.method = "dialog";
    close.textContent = "Close";
    form.append(close);
    dialog.append(keys.cloneNode(true), form);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    switch (event.key) {
      case "j": step(1); break;
      case "k": step(-1); break;
      case "o": $("summary.at, .at a[href]")?.click(); break;
      case "u": $(".crumbs li:nth-last-child(2) a")?.click(); break;
      case "n": $("a[rel=next]")?.click(); break;
      case "p": $("a[rel=prev]")?.click(); break;
      case "?": help(); break;
      case "/": {
        const field = $("input[type=search]");
        if (!field) return;
        field.focus();
        field.select();
        break;
      }
      default: return;
    }
    event.preventDefault();
  });
})();
