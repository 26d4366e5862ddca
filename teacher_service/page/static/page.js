// The live figures: fetched anew every few seconds, while somebody looks.
"use strict";

const live = document.getElementById("live");
const EVERY_MS = 3000;

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(live.dataset.from, { redirect: "error" });
    if (answer.ok) live.innerHTML = await answer.text();
  } catch {
    // The service is being started again, or the session is over: the next load says which.
  }
}

if (live) setInterval(refresh, EVERY_MS);
