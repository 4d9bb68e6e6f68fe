// The page: one connection, one model, one loop of paints; views by the address's fragment.

import { Alerts } from './alerts.js';
import { $, paintClass, setHidden, write } from './dom.js';
import { fixed, latency, span } from './format.js';
import { forget, framePainted, glassNow, nowUs } from './glass.js';
import { History } from './history.js';
import { Link } from './link.js';
import { Model } from './model.js';
import { Overview } from './overview.js';
import { Pipeline } from './pipeline.js';
import { ProductView } from './product.js';

const SLOW_MS = 250; // everything but prices and trades is painted this often
const QUIET_SECONDS = 10; // without a trade for so long the market is called quiet

const model = new Model();
const overview = new Overview(model);
const product = new ProductView(model);
const pipeline = new Pipeline(model);
const alerts = new Alerts(model);
const history = new History();
const VIEWS = ['market', 'product', 'alerts', 'pipeline', 'history'];
let view = 'market';
let scheduled = false;
let slowAt = 0;
let lateAt = 0;

const link = new Link((message) => {
  model.take(message);
  if (message.type === 'hello') begin();
  schedule();
}, linkState);

function begin() {
  forget();
  document.title = `Fulltape · ${model.hello.feed}`;
  write($('feed'), model.hello.feed);
  write($('version'), model.hello.version);
  overview.begin();
  pipeline.begin();
  history.begin().then(() => {
    if (historyAsked()) route();
  });
  route();
}

/** Show the view that the address names. */
function route() {
  const name = historyAsked() ? '' : decodeURIComponent(location.hash.replace(/^#\/?/, ''));
  const before = view;
  view = ['alerts', 'pipeline'].includes(name) ? name : model.hello?.products.includes(name) ? 'product' : 'market';
  if (historyAsked() && history.queries.size) view = 'history';
  for (const id of VIEWS) setHidden($(id), id !== view);
  for (const entry of document.querySelectorAll('nav a')) {
    const current = entry.dataset.view === view || (view === 'product' && entry.dataset.view === 'market');
    if (current) entry.setAttribute('aria-current', 'page');
    else entry.removeAttribute('aria-current');
  }
  const chosen = view === 'product' ? name : null;
  model.look(chosen);
  link.look(chosen);
  if (chosen) product.show(chosen);
  if (view === 'market') overview.show();
  if (view === 'history') history.show();
  model.alertsChanged = model.healthChanged = true;
  if (view !== before) scrollTo(0, 0);
  schedule();
}

const historyAsked = () => location.hash.startsWith('#/history');

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(paint);
}

/** Write what is new into the document, once for all that came since the last frame of the screen. */
function paint(now) {
  scheduled = false;
  const slowly = now - slowAt >= SLOW_MS;
  if (slowly) slowAt = now;
  const sentUs = model.sentUs;
  if (view === 'market') overview.paint(now, nowUs, slowly);
  else if (view === 'pipeline') pipeline.paintNewest(nowUs);
  else model.changed.clear();
  if (view === 'product') product.paint(now, nowUs, slowly);
  if (sentUs) {
    framePainted(sentUs, nowUs());
    model.sentUs = 0;
  }
  if (model.alertsChanged && model.hello) {
    model.alertsChanged = false;
    alerts.paint(view);
    if (view === 'product') product.mark();
  }
  if (model.healthChanged && model.health) {
    model.healthChanged = false;
    vitals();
    if (view === 'pipeline') pipeline.paint();
  }
  if (!slowly && !lateAt) {
    lateAt = setTimeout(() => {
      lateAt = 0;
      schedule();
    }, SLOW_MS);
  }
}

function vitals() {
  const { health } = model;
  const glass = glassNow();
  write($('vital-rate'), fixed(health.trades_per_second, 0));
  write($('vital-p50'), latency(glass.p50));
  write($('vital-p99'), latency(glass.p99));
  write($('vital-missing'), fixed(health.missing, 0));
  paintClass($('vital-missing'), health.missing ? 'down' : 'up');
  banner(health.kafka ? null : 'Kafka is away: prices stand still until it is back.');
  if (health.loading) state('connecting', 'Loading');
  else if (!model.rows.size && !model.product?.points[model.hello.windows[0]]) state('connecting', 'Waiting');
  else if (health.quiet_seconds > QUIET_SECONDS) state('connecting', `Quiet ${span(health.quiet_seconds)}`);
  else state('live', 'Live');
}

function linkState(now, seconds) {
  document.body.classList.toggle('gone', now === 'gone');
  if (now === 'gone') {
    state('gone', 'Reconnecting');
    banner(`The server is gone; trying again in ${span(Math.max(1, seconds))}.`);
  } else {
    banner(null);
    if (now === 'connecting') state('connecting', 'Connecting');
  }
}

function state(name, text) {
  if ($('link').dataset.state !== name) $('link').dataset.state = name;
  write($('link-text'), text);
}

function banner(text) {
  setHidden($('banner'), text === null);
  if (text !== null) write($('banner'), text);
}

addEventListener('hashchange', () => {
  if (!model.hello) return;
  route();
  $('main').focus({ preventScroll: true });
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && view === 'product') location.hash = '#/';
});
