/* What a screen reader is told: when the findings are others, and not too often. */

const CALM = "Nothing needs attention.";
let told = CALM, toldAt = -SPEAK_MS;
function speak(text) {
  if (text === told || performance.now() - toldAt < SPEAK_MS) return;
  told = text;
  toldAt = performance.now();
  put(at("spoken"), text);
}

/* The stream. */

let source = null, isPaused = false, heardAt = null, retry = 0;

function open() {
  if (source || isPaused || document.hidden) return;
  openedAt = performance.now();
  source = new EventSource("events");
  source.onmessage = (event) => {
    show(JSON.parse(event.data));
    /* Only what could be shown is news: a fault of the page must not look live. */
    heardAt = performance.now();
    tell();
  };
  source.onerror = () => {
    isLost = true;
    /* Sent away (too many look, or it is stopping): the browser does not come back by itself then. */
    if (source && source.readyState === EventSource.CLOSED) { close(); again(); }
    tell();
  };
  source.onopen = () => { isLost = false; tell(); };
}

function close() {
  if (source) source.close();
  source = null;
}

function again() {
  clearTimeout(retry);
  retry = setTimeout(open, RETRY_MS);
}

let isLost = false, openedAt = 0;
function tell() {
  if (document.hidden) return;
  const age = heardAt === null ? null : performance.now() - heardAt;
  const old = age === null ? "" : `, numbers of ${length(age / 1000)} ago`;
  const [link, text] = isPaused ? ["paused", "Paused" + old]
    : isLost ? ["lost", "Connection lost, reconnecting" + old]
    : age === null ? ["connecting", "Connecting…"]
    : age > NO_NEWS_MS ? ["stale", "No news" + old]
    : ["live", "Live"];
  if (document.body.dataset.link !== link && link === "lost") put(at("spoken"), "Connection lost, reconnecting");
  mark(document.body, "link", link);
  put(at("link-text"), text);
}

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  put(at("pause"), isPaused ? "Resume" : "Pause");
  if (isPaused) close();
  else open();
  tell();
});
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", open);
setInterval(() => {
  const quiet = performance.now() - Math.max(heardAt ?? 0, openedAt);
  /* A connection that the network forgot never says so. */
  if (source && !isLost && quiet > GIVE_UP_MS) { isLost = true; close(); open(); }
  tell();
}, 1000);
open();
