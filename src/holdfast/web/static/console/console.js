// What a page does besides htmx: live rows, the key for the next order, ages, signs of life.
(() => {
  "use strict";
  const lang = document.documentElement.lang;
  const list = document.getElementById("orders");
  const notice = document.getElementById("notice");

  for (const field of document.querySelectorAll("[data-submit]")) {
    field.addEventListener("change", () => field.form.requestSubmit());
  }

  // A key repeats nothing: a double click places one order.
  for (const form of document.querySelectorAll("[data-place]")) {
    form.addEventListener("htmx:configRequest", (event) => {
      form.dataset.key ||= crypto.getRandomValues(new Uint32Array(4)).join("-");
      event.detail.parameters.key = form.dataset.key;
    });
    form.addEventListener("htmx:afterRequest", (event) => {
      if (event.target === form && event.detail.successful) {
        delete form.dataset.key;
        form.reset();
      }
    });
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "n" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const next = document.getElementById("take-next");
    if (next && !event.repeat) next.click();
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-goto]");
    const row = link && document.getElementById(link.dataset.goto);
    if (row) row.querySelector("button")?.focus();
  });

  if (!list) return;

  const relative = new Intl.RelativeTimeFormat(lang, { style: "short" });
  const clock = new Intl.DateTimeFormat(lang, { dateStyle: "short", timeStyle: "short" });
  const told = (seconds) => {
    const size = Math.abs(seconds);
    if (size < 90) return relative.format(Math.round(seconds), "second");
    if (size < 5400) return relative.format(Math.round(seconds / 60), "minute");
    if (size < 129600) return relative.format(Math.round(seconds / 3600), "hour");
    return relative.format(Math.round(seconds / 86400), "day");
  };
  const tell = (root) => {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      const left = (at - Date.now()) / 1000;
      time.textContent = told(left);
      time.title = clock.format(at);
      const row = time.closest(".order");
      if ("due" in time.dataset && row) {
        row.classList.toggle("soon", left > 0 && left < 600);
        row.classList.toggle("late", left <= 0);
      }
    }
  };
  const sound = (row) => (row.dataset.status === "PENDING" || row.dataset.status === "PROCESSING");

  // By priority, then age; a customer's newest first. Ids are in order of time.
  const before = (a, b) => {
    if (list.dataset.order === "age") return a.dataset.id > b.dataset.id;
    const difference = b.dataset.priority - a.dataset.priority;
    return difference < 0 || (difference === 0 && a.dataset.id < b.dataset.id);
  };

  const put = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html.trim();
    const row = holder.content.firstElementChild;
    const old = document.getElementById(row.id);
    if (old && Number(old.dataset.version) > Number(row.dataset.version)) return;
    if (old?.querySelector(".htmx-request")) {  // its answer has more to say, and is on its way
      setTimeout(() => put(html), 100);
      return;
    }
    const held = old?.contains(document.activeElement);
    const said = old?.querySelector(".told");
    if (said && old.dataset.version === row.dataset.version) {
      row.querySelector(".what").append(said);
    }
    if (old) old.replaceWith(row);
    else if (sound(row)) {
      row.classList.add("new");
      const next = [...list.children].find((other) => before(row, other));
      list.insertBefore(row, next ?? null);
    } else return;
    tell(row.parentElement);
    htmx.process(row);
    if (held) (row.querySelector("button") ?? document.getElementById("content")).focus();
    if (!sound(row)) setTimeout(() => { if (row.isConnected) row.remove(); }, 4000);
  };

  const source = new EventSource(list.dataset.events);
  source.addEventListener("open", () => { list.dataset.live = "yes"; });
  source.addEventListener("error", () => { list.dataset.live = "no"; });
  source.addEventListener("present", (event) => {
    const present = new Set(JSON.parse(event.data));
    for (const row of [...list.children]) if (!present.has(row.dataset.id)) row.remove();
  });
  source.addEventListener("order", (event) => put(event.data));
  addEventListener("pagehide", () => source.close());
  document.body.addEventListener("htmx:afterSwap", () => tell(list));
  document.body.addEventListener("htmx:sendError", () => {
    if (notice) notice.textContent = list.dataset.offline;
  });
  tell(list);
  setInterval(() => tell(list), 15000);

  // Who is at the desk keeps what he holds; who has gone loses it.
  let alive = false;
  for (const kind of ["pointerdown", "keydown", "scroll"]) {
    addEventListener(kind, () => { alive = true; }, { passive: true });
  }
  setInterval(() => {
    if (!alive) return;
    alive = false;
    for (const row of list.querySelectorAll("[data-mine]")) {
      fetch(`/console/orders/${row.dataset.id}/heartbeat`, {
        method: "POST",
        headers: { "X-CSRF-Token": document.body.dataset.csrf, "HX-Request": "true" },
      }).catch(() => {});
    }
  }, 20000);
})();
