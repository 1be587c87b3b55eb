// Keeps what is typed into a stage. Nothing typed is ever lost: it lies in this browser until the
// server has it, and where somebody else saved meanwhile both texts stand side by side.
(() => {
  "use strict";
  const form = document.querySelector("[data-autosave]");
  if (!form) return;
  const state = document.getElementById("autosave");
  const conflict = document.getElementById("conflict");
  const theirs = document.getElementById("theirs");
  const fields = [...form.querySelectorAll("textarea")];
  const tab = (sessionStorage.holdfastTab ||= crypto.randomUUID());
  const kept = `holdfast:${form.dataset.name}:`;
  const PAUSE = 600, PATIENCE = 8000, AGAIN = 3000;  // milliseconds
  let version = Number(form.dataset.version);
  let typed = 0, sent = 0, running = false, halted = false, timer = 0, other = null, draft = null;

  const show = (name) => {
    state.dataset.state = name;
    state.textContent = form.dataset[name];
  };
  const now = () => Object.fromEntries(fields.map((field) => [field.name, field.value]));
  const put = (texts) => {
    for (const field of fields) field.value = texts[field.name] ?? "";
  };
  const plain = (texts) => fields.map((field) => texts[field.name]).filter(Boolean).join("\n\n");
  const ask = (why, text) => {
    for (const part of conflict.querySelectorAll("[data-why]")) {
      part.hidden = part.dataset.why !== why;
    }
    theirs.textContent = text;
    conflict.hidden = false;
    conflict.scrollIntoView({ block: "nearest" });
  };
  const seq = () => {
    const next = Math.max(Date.now(), Number(sessionStorage.holdfastSeq || 0) + 1);
    sessionStorage.holdfastSeq = next;
    return next;
  };

  const save = async () => {
    clearTimeout(timer);
    if (running || halted || sent === typed) return;
    running = true;
    const turn = typed;
    show("saving");
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        headers: { "X-CSRF-Token": document.body.dataset.csrf },
        body: new URLSearchParams({ ...now(), version, tab, seq: seq() }),
        signal: AbortSignal.timeout(PATIENCE),
      });
      const told = await answer.json();
      if (answer.ok) {
        version = told.version;
        sent = turn;
        if (sent === typed) {
          localStorage.removeItem(kept + tab);
          show("saved");
        }
      } else if (answer.status === 412) {
        halted = true;
        other = told;
        show("conflict");
        ask("conflict", plain(told.fields));
      } else {
        show("unsaved");
        if (told.told) state.textContent += " " + told.told.join(" ");
        if (answer.status < 500) return;  // typing on will try again
        timer = setTimeout(save, AGAIN);
      }
    } catch {
      show("unsaved");
      timer = setTimeout(save, AGAIN);
    } finally {
      running = false;
      if (sent !== typed && !halted && state.dataset.state !== "unsaved") save();
    }
  };

  form.addEventListener("input", () => {
    typed += 1;
    localStorage.setItem(kept + tab, JSON.stringify({ at: Date.now(), texts: now() }));
    if (!halted) {
      show("unsaved");
      clearTimeout(timer);
      timer = setTimeout(save, PAUSE);
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  addEventListener("pagehide", () => {
    if (sent === typed || halted) return;
    const body = new URLSearchParams({ ...now(), version, tab, seq: seq() });
    const headers = { "X-CSRF-Token": document.body.dataset.csrf };
    fetch(form.action, { method: "POST", headers, body, keepalive: true }).catch(() => {});
  });
  addEventListener("beforeunload", (event) => {
    if (halted) event.preventDefault();
  });

  conflict.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-choose]")?.dataset.choose;
    if (!chosen) return;
    conflict.hidden = true;
    if (chosen === "mine" || chosen === "theirs") {
      version = other.version;
      halted = false;
    }
    if (chosen === "mine") {
      save();
    } else if (chosen === "theirs") {
      const aside = document.getElementById("typed");
      aside.querySelector("pre").textContent = plain(now());
      aside.hidden = false;
      put(other.fields);
      sent = typed;
      localStorage.removeItem(kept + tab);
      show("saved");
    } else if (chosen === "draft") {
      put(draft.texts);
      localStorage.removeItem(draft.key);
      typed += 1;
      save();
    } else {
      localStorage.removeItem(draft.key);
    }
  });

  // What a tab that is gone could not save any more.
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(kept)) continue;
    const found = JSON.parse(localStorage.getItem(key));
    if (key !== kept + tab && Date.now() - found.at < 15000) continue;  // perhaps it is alive
    if (plain(found.texts) === plain(now())) {
      localStorage.removeItem(key);
    } else {
      draft = { key, texts: found.texts };
      ask("draft", plain(found.texts));
      break;
    }
  }
  form.dataset.ready = "yes";
})();
