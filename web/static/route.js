// ?user=&feed=&pin= is the whole state of the page, so a link can be shared and back goes back. `pin` is the one looked at
// closely.

// As the tabs are; a page opened without ?feed= is the first.
export const FEEDS = ["home", "following", "interest", "picked"];

// Digits, or any text where the deployment has ids of text; the server refuses what is none.
const idOf = (text) => (text && text.length <= 255 ? text : null);

export function current() {
  const query = new URLSearchParams(location.search);
  const feed = query.get("feed");
  return { user: idOf(query.get("user")), feed: FEEDS.includes(feed) ? feed : FEEDS[0], pin: idOf(query.get("pin")) };
}

export function go({ user, feed }) {
  const was = current();
  if (was.user === user && was.feed === feed && user) return;
  const query = new URLSearchParams(location.search);
  if (user) query.set("user", user);
  query.set("feed", feed);
  query.delete("pin");
  history.pushState(null, "", `?${query}`);
}

/** The address of a pin, looked at on the page that is shown. */
export function addressOf(pin) {
  const query = new URLSearchParams(location.search);
  if (pin) query.set("pin", pin);
  else query.delete("pin");
  return `?${query}`;
}

/** A closer look is a step that Back takes back; from one pin to the next it is the same step. */
export function lookAt(pin) {
  if (current().pin === pin) return;
  if (current().pin) history.replaceState(history.state, "", addressOf(pin));
  else history.pushState({ look: true }, "", addressOf(pin));
}

/** The end of a closer look: back to where it began, or, where the page was opened with it, the address without the pin. */
export function lookAway() {
  if (!current().pin) return;
  if (history.state?.look) history.back();
  else history.replaceState(null, "", addressOf(null));
}
