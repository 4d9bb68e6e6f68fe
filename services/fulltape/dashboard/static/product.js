// One product: its price now, the chart, the trades as they come, every measure of every window.

import { $, make, paintClass, setHidden, write } from './dom.js';
import { change, decimals, exact, fixed, mood, percent, significant, span, tick, volatility, z } from './format.js';
import { painted } from './glass.js';

const CHART_MS = 300; // how often the chart is drawn
const TRADES_MS = 100; // how often the list of trades moves

const price = (value, digits) => fixed(value, digits);
const share = (value) => percent(value, 2);
const small = (value) => percent(value, 3);
const count = (value) => fixed(value, 0);

/** How measures are grouped, named and written; those that are not here come last, under their own names. */
const GROUPS = [
  ['Price', {
    vwap: ['VWAP', price], sma: ['Simple average', price], twap: ['TWAP', price], ema: ['Exponential average', price],
    vwapDeviation: ['Distance from VWAP', small], spread: ['Spread', small], spreadZScore: ['Spread, σ', z],
  }],
  ['Volatility', {
    annualizedVolatility: ['Annualized', volatility], realizedVolatility: ['Realized', small], volatilityZScore: ['Realized, σ', z],
    bipowerVariation: ['Bipower variation', significant], jumpRatio: ['Jump share', share], ewmaVolatility: ['EWMA, per second', small],
    parkinson: ['Parkinson', small], garmanKlass: ['Garman-Klass', small], rogersSatchell: ['Rogers-Satchell', small],
    priceChangeStdDev: ['Price change, std dev', significant],
  }],
  ['Flow', {
    trades: ['Trades', count], tradeRateZScore: ['Trade rate, σ', z], orderFlowImbalance: ['Order-flow imbalance', mood],
    orderFlowZScore: ['Order flow, σ', z], amihudIlliquidity: ['Amihud illiquidity', significant], staleness: ['Since last trade', (value) => (value == null ? '–' : span(value))],
    roundSizeShare: ['Round sizes', share], firstDigitDeviation: ['First-digit deviation', significant],
  }],
  ['Extremes', {
    drawdown: ['Drawdown', share], runUp: ['Run-up', share], recovery: ['Recovered', share], miniCrash: ['Mini crash', share],
    largestReturn: ['Largest return', small],
  }],
];

const spoken = (name) => name.replace(/([A-Z])/g, ' $1').replace(/^./, (first) => first.toUpperCase());

/** Seconds of a window's length as a feed writes it. */
const seconds = (text) => parseInt(text, 10) * { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 }[text.replace(/\d+/, '')];

export class ProductView {
  constructor(model) {
    this.model = model;
    this.window = null;
    this.name = null;
    this.chart = null;
    this.chartAt = 0;
    this.tradesAt = 0;
    this.cells = new Map();
  }

  /** Begin with a product; the library of charts is fetched when one is first looked at. */
  async show(name) {
    const { windows, measures } = this.model.hello;
    this.name = name;
    this.shown = null;
    this.digits = null;
    if (!windows.includes(this.window)) this.window = windows[0];
    write($('product-title'), name);
    for (const id of ['quote-price', 'quote-change']) write($(id), '–');
    $('trades').replaceChildren();
    this.makeTabs(windows);
    this.makeFacts();
    this.makeMeasures(windows, Object.keys(measures), measures);
    if (!this.chart) {
      const { Chart } = await import('./chart.js');
      this.chart ??= new Chart($('chart'), (values) => this.legend(values));
    }
    this.digits = null; // the chart begins anew too
    this.chartAt = 0;
  }

  makeTabs(windows) {
    const tabs = windows.map((window) => {
      const button = make('button', { type: 'button', onclick: () => this.choose(window) }, window);
      button.setAttribute('aria-pressed', String(window === this.window));
      return button;
    });
    $('tabs').replaceChildren(...tabs);
  }

  choose(window) {
    this.window = window;
    for (const button of $('tabs').children) button.setAttribute('aria-pressed', String(button.textContent === window));
    this.digits = null;
    this.chartAt = 0;
    if (this.model.product) this.model.product.fresh = true;
  }

  makeFacts() {
    this.facts = {};
    const pairs = [['vwap', 'VWAP'], ['volatility', 'Volatility'], ['flow', 'Sentiment'], ['trades', 'Trades'], ['complete', 'Complete']];
    $('facts').replaceChildren(...pairs.map(([id, name]) => {
      this.facts[id] = make('dd', {}, '–');
      return make('div', { className: id }, make('dt', {}, name), this.facts[id]);
    }));
  }

  makeMeasures(windows, names, descriptions) {
    const grouped = new Set(GROUPS.flatMap(([, measures]) => Object.keys(measures)));
    const rest = Object.fromEntries(names.filter((name) => !grouped.has(name)).map((name) => [name, [spoken(name), significant]]));
    this.cells.clear();
    const tables = [...GROUPS, ['Others', rest]].map(([title, measures]) => {
      const known = Object.entries(measures).filter(([name]) => names.includes(name));
      if (!known.length) return '';
      const head = make('tr', {}, make('th', { scope: 'col' }, ''), ...windows.map((window) => make('th', { scope: 'col' }, window)));
      const rows = known.map(([name, [label, format]]) => {
        const cells = windows.map((window) => {
          const cell = make('td', {}, '–');
          this.cells.set(`${window} ${name}`, [cell, format]);
          return cell;
        });
        return make('tr', { title: descriptions[name] }, make('th', { scope: 'row' }, label), ...cells);
      });
      return make('table', {}, make('caption', {}, title), make('thead', {}, head), make('tbody', {}, ...rows));
    });
    $('measures').replaceChildren(...tables);
  }

  paint(now, nowUs, slowly) {
    const { product, hello } = this.model;
    if (!product || product.name !== this.name) return;
    const newest = product.windows[hello.windows[0]];
    if (newest && newest.last_price !== this.shown) this.paintPrice(newest.last_price);
    if (product.traded && now - this.tradesAt > TRADES_MS) {
      product.traded = false;
      this.tradesAt = now;
      this.paintTrades(product.trades);
    }
    if (slowly && product.fresh) {
      product.fresh = false;
      this.paintMeasures(product.windows);
    }
    if (this.chart && now - this.chartAt > CHART_MS) this.paintChart(product, now);
    if (newest) painted(product.name, newest.last_id, newest.trade_us, nowUs());
  }

  paintPrice(text) {
    const moved = this.shown === null ? 0 : Number(text) - Number(this.shown);
    write($('quote-price'), exact(text));
    paintClass($('quote-price'), `big ${moved > 0 ? 'up' : moved < 0 ? 'down' : ''}`);
    this.shown = text;
  }

  paintTrades(trades) {
    const body = $('trades');
    while (body.children.length < trades.length) {
      body.append(make('tr', {}, make('td', { className: 'dim' }, ''), make('td', { className: 'n' }, ''), make('td', { className: 'n' }, '')));
    }
    const room = Math.ceil(body.clientHeight / 24);
    trades.slice(0, room).forEach(([, timeUs, cost, size, side], index) => {
      const [when, paid, much] = body.children[index].children;
      write(when, tick(timeUs));
      write(paid, exact(cost));
      paintClass(paid, side === 'buy' ? 'n up' : 'n down');
      write(much, exact(size));
    });
  }

  paintMeasures(windows) {
    const shown = windows[this.window];
    if (shown) {
      const digits = decimals(shown.last_price);
      const { measures } = shown;
      const moved = shown.open === null ? null : Number(shown.last_price) / Number(shown.open) - 1;
      write($('quote-change'), `${change(moved)} in ${this.window}`);
      paintClass($('quote-change'), moved > 0 ? 'up' : moved < 0 ? 'down' : 'dim');
      write(this.facts.vwap, price(measures.vwap, digits));
      write(this.facts.volatility, volatility(measures.annualizedVolatility));
      write(this.facts.flow, mood(measures.orderFlowImbalance));
      write(this.facts.trades, count(shown.trades));
      write(this.facts.complete, shown.missing ? `${count(shown.missing)} missing` : '✓');
      paintClass(this.facts.complete, shown.missing ? 'down' : 'up');
    }
    for (const [window, { measures, last_price: last }] of Object.entries(windows)) {
      for (const [name, value] of Object.entries(measures)) {
        const found = this.cells.get(`${window} ${name}`);
        if (found) write(found[0], found[1](value, decimals(last)));
      }
    }
  }

  paintChart(product, now) {
    const points = product.points[this.window];
    setHidden($('chart-empty'), Boolean(points?.length));
    if (!points?.length || this.shown === null) return;
    const begins = this.digits === null;
    if (begins) {
      this.digits = decimals(this.shown);
      this.chart.clear(this.digits);
    } else if (product.stale[this.window] === undefined) return;
    this.chartAt = now;
    this.chart.draw(points, seconds(this.window), begins ? 0 : product.stale[this.window]);
    delete product.stale[this.window];
    if (begins) this.mark();
  }

  /** Mark this product's alerts on the chart. */
  mark() {
    if (!this.chart || !this.model.product) return;
    const { name } = this.model.product;
    this.chart.mark([...this.model.alerts.values()].filter((alert) => alert.product === name));
  }

  legend({ time, price: paid, vwap, volatility, flow }) {
    const parts = this.parts ??= [['p', 'Price '], ['v', 'VWAP '], ['up', 'Volatility '], ['', '']].map(([className, text]) => {
      const value = make('b', {}, '');
      $('legend').append(make('span', { className }, text, value));
      return value;
    });
    [paid, vwap, volatility, `Flow ${flow} · ${time}`].forEach((text, index) => write(parts[index], text));
  }
}
