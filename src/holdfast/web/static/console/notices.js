// The service worker: shows what was pushed, and opens what it speaks of. One id is shown once.
addEventListener("push", (event) => {
  const told = event.data.json();
  event.waitUntil(registration.showNotification(told.title, {
    body: told.body, tag: told.id, data: `/console${told.url}`, icon: "/console/static/mark.svg",
  }));
});

addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(clients.openWindow(event.notification.data));
});
