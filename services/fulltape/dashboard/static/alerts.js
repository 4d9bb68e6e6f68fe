// The alert log: the latest beside the market, one product's beside its chart, all on a page of their own.

import { $, make, setHidden, write } from './dom.js';
import { span, time } from './format.js';

const RECENT = 12;

function entry(alert) {
  const lasted = alert.ends_us ? `resolved after ${span(Math.max(0, alert.ends_us - alert.starts_us) / 1e6)}` : alert.state;
  const about = make('small');
  if (alert.product) about.append(make('a', { href: `#/${alert.product}` }, alert.product), ' · ');
  about.append([alert.window, alert.severity, lasted].filter(Boolean).join(' · '));
  const item = make(
    'li', {},
    make('span', { className: 'dot' }),
    make('strong', {}, alert.name),
    make('time', { dateTime: new Date(alert.starts_us / 1000).toISOString() }, time(alert.starts_us)),
    make('p', {}, alert.summary),
    about,
  );
  item.dataset.state = alert.state;
  item.dataset.severity = alert.severity;
  return item;
}

function fill(list, alerts) {
  list.replaceChildren(...(alerts.length ? alerts.map(entry) : [make('li', { className: 'none' }, 'No alerts.')]));
}

export class Alerts {
  constructor(model) {
    this.model = model;
    this.told = null; // changes up to here have been announced
    fill($('recent'), []);
    fill($('log'), []);
  }

  /** Write every list that is in sight. */
  paint(view) {
    const { model } = this;
    const alerts = [...model.alerts.values()].sort((one, other) => other.starts_us - one.starts_us);
    const firing = alerts.filter((alert) => alert.state === 'firing');
    setHidden($('alert-count'), firing.length === 0);
    write($('alert-count'), String(firing.length));
    $('alert-count').setAttribute('aria-label', `${firing.length} firing`);
    if (view === 'market') fill($('recent'), alerts.slice(0, RECENT));
    if (view === 'alerts') fill($('log'), alerts);
    if (view === 'product') {
      const { name } = model.product;
      fill($('product-alerts'), alerts.filter((alert) => alert.product === name || !alert.product).slice(0, 2 * RECENT));
    }
    this.announce(firing);
  }

  /** Say new firings to a screen reader; what fired before the page came is no news. */
  announce(firing) {
    const latest = firing.reduce((most, alert) => (alert.changed_us > most.changed_us ? alert : most), { changed_us: 0 });
    if (this.told !== null && latest.changed_us > this.told) write($('announce'), `Alert: ${latest.summary}`);
    this.told = Math.max(this.told ?? 0, latest.changed_us);
  }
}
