// The connection to the server: opens, notices silence, comes back by itself with back-off.

const SILENT_MS = 5000; // the server speaks every second
const FIRST_MS = 400;
const MOST_MS = 5000;

export class Link {
  /** frame(object) takes each message; state('connecting' | 'open' | 'gone', seconds to the next try) each change. */
  constructor(frame, state) {
    this.frame = frame;
    this.state = state;
    this.view = null;
    this.attempts = 0;
    this.heard = 0;
    this.open();
    setInterval(() => this.watch(), 1000);
    addEventListener('online', () => this.again());
    document.addEventListener('visibilitychange', () => document.hidden || this.again());
  }

  /** Look at a product, or at all with null. */
  look(view) {
    this.view = view;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ view }));
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live`);
    this.socket = socket;
    this.heard = performance.now();
    if (!this.attempts) this.state('connecting');
    socket.onopen = () => {
      if (this.view !== null) this.look(this.view);
    };
    socket.onmessage = (event) => {
      this.heard = performance.now();
      this.attempts = 0;
      const message = JSON.parse(event.data);
      if (message.type === 'hello') this.state('open');
      this.frame(message);
    };
    socket.onclose = () => this.closed(socket);
  }

  closed(socket) {
    if (socket !== this.socket) return;
    socket.onmessage = null;
    this.socket = null;
    const wait = Math.min(MOST_MS, FIRST_MS * 2 ** this.attempts) * (0.8 + 0.4 * Math.random());
    this.attempts += 1;
    this.state('gone', wait / 1000);
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** Try now rather than later. */
  again() {
    if (this.timer) this.open();
  }

  watch() {
    const socket = this.socket;
    if (!socket || performance.now() - this.heard < SILENT_MS) return;
    socket.onclose = null;
    socket.close();
    this.closed(socket);
  }
}
