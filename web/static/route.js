// ?user=&feed= is the whole state of the page, so a link can be shared and back goes back.

// As the tabs are; a page opened without ?feed= is the first.
export const FEEDS = ["home", "following", "interest", "picked"];

export function current() {
  const query = new URLSearchParams(location.search);
  const user = query.get("user"), feed = query.get("feed");
  return { user: /^\d{1,20}$/.test(user ?? "") ? user : null, feed: FEEDS.includes(feed) ? feed : FEEDS[0] };
}

export function go({ user, feed }) {
  const was = current();
  if (was.user === user && was.feed === feed && user) return;
  const query = new URLSearchParams(location.search);
  if (user) query.set("user", user);
  query.set("feed", feed);
  history.pushState(null, "", `?${query}`);
}
