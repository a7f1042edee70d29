// The stream of events: read, and taken up again where it broke off.

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** follow hands the events to onEvents, in batches, and says by onState how it
 * goes: "connected", "lost" (and it tries again), "gone" (for good). It uses
 * fetch and not EventSource, which cannot send the header that is asked for. */
export async function follow(session, onEvents, onState) {
  let last = "0";
  for (let failures = 0; ; failures++) {
    try {
      const response = await fetch(`${session.base}/events`, {
        headers: { "X-Lesson-Tour": "1", "Last-Event-ID": last, Accept: "text/event-stream" },
      });
      if (response.status === 404 || response.status === 410) {
        onState("gone");
        return;
      }
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      onState("connected");
      failures = 0;
      for await (const message of messages(response.body)) {
        if (message.id) last = message.id;
        if (message.data) await inPieces(JSON.parse(message.data), onEvents);
      }
    } catch (error) {
      console.debug("the stream broke off:", error.message);
    }
    onState("lost");
    await pause(Math.min(250 * 2 ** failures, 5000));
  }
}

const PIECE = 250; // events

/** inPieces lets the page breathe between the pieces of a long batch. While we are
 * not reading, the program notices, and sends less. */
async function inPieces(events, onEvents) {
  for (let i = 0; i < events.length; i += PIECE) {
    if (i > 0) await pause(0);
    onEvents(events.slice(i, i + PIECE));
  }
}

/** messages parses a text/event-stream (HTML standard, section 9.2.6). */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = { id: "", data: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.replace(/\r$/, "");
      if (line === "") {
        if (message.data) yield message;
        message = { id: "", data: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") message.id = text;
      if (field === "data") message.data += (message.data ? "\n" : "") + text;
    }
  }
}
