// Notifications in this browser: asked for by a button, shown by the service worker.
(() => {
  "use strict";
  const place = document.querySelector("[data-push]");
  const able = "serviceWorker" in navigator && "PushManager" in window;
  if (!place || !able || Notification.permission === "denied") return;
  const button = place.querySelector("button");
  const said = place.querySelector("[role=status]");
  place.hidden = false;

  const base64url = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const worker = await navigator.serviceWorker.register("/console/notices.js");
      const made = await worker.pushManager.subscribe({
        userVisibleOnly: true, applicationServerKey: place.dataset.push,
      });
      const answer = await fetch("/console/subscriptions", {
        method: "POST",
        headers: { "X-CSRF-Token": document.body.dataset.csrf },
        body: new URLSearchParams({
          endpoint: made.endpoint,
          p256dh: base64url(made.getKey("p256dh")),
          auth: base64url(made.getKey("auth")),
        }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      said.textContent = said.dataset.done;
    } catch {
      said.textContent = said.dataset.refused;
      button.disabled = false;
    }
  });
})();
