// The market: a row for each product. Prices are painted with every frame, the rest a few times a second.

import { $, canvas, colours, make, onPalette, paintClass, setHidden, write } from './dom.js';
import { change, decimals, exact, fixed, mood, volatility, z } from './format.js';
import { painted } from './glass.js';

const FLASH_MS = 450; // how long a price keeps the colour of its last move
const SPARK_MS = 1000; // how often a sparkline's end moves

class Row {
  constructor(product) {
    const [base, quote] = product.split('-');
    const cell = (className, ...children) => {
      const td = make('td', { className }, ...children);
      td.setAttribute('role', 'cell');
      return td;
    };
    this.product = product;
    this.price = cell('n price', '–');
    this.spark = make('canvas');
    this.spark.setAttribute('aria-hidden', 'true');
    this.change = cell('n change', '–');
    this.vwap = cell('n extra', '–');
    this.volatility = cell('n extra', '–');
    this.bar = make('b');
    this.mood = make('span', {}, '–');
    this.moodBox = make('div', { className: 'mood' }, make('i', {}, this.bar), this.mood);
    this.z = [1, 2, 3].map(() => cell('n extra z', '–'));
    this.complete = cell('n extra', '–');
    const link = make('a', { href: `#/${product}` }, base, make('small', {}, `-${quote}`));
    this.element = make(
      'tr', {},
      cell('name', link), this.price, cell('spark', this.spark), this.change, this.vwap, this.volatility,
      cell('moodcell', this.moodBox), ...this.z, this.complete,
    );
    this.element.setAttribute('role', 'row');
    this.shown = null; // the price that is painted
    this.movedAt = 0;
    this.sparkAt = 0;
    this.slow = false; // whether the rest lags behind the price
  }

  /** Paint the price; return whether it moved. */
  paintPrice(price, now) {
    if (price === this.shown) return;
    write(this.price, exact(price));
    if (this.shown !== null) {
      paintClass(this.price, Number(price) > Number(this.shown) ? 'n price up' : 'n price down');
      this.movedAt = now;
    }
    this.shown = price;
  }

  paintRest(row, at, now) {
    if (this.movedAt && now - this.movedAt > FLASH_MS) {
      paintClass(this.price, 'n price');
      this.movedAt = 0;
    }
    if (!this.slow) return;
    this.slow = false;
    const moved = row[at.change];
    write(this.change, change(moved));
    paintClass(this.change, `n change ${moved > 0 ? 'up' : moved < 0 ? 'down' : 'dim'}`);
    write(this.vwap, fixed(row[at.vwap], decimals(row[at.price])));
    write(this.volatility, volatility(row[at.volatility]));
    const feeling = row[at.imbalance];
    write(this.mood, mood(feeling));
    paintClass(this.moodBox, `mood ${feeling < 0 ? 'down' : 'up'}`);
    this.bar.style.transform = `scaleX(${(feeling ?? 0).toFixed(2)})`;
    [at.volatilityZ, at.imbalanceZ, at.rateZ].forEach((index, place) => {
      write(this.z[place], z(row[index]));
      const size = Math.abs(row[index] ?? 0);
      paintClass(this.z[place], `n extra z ${size >= 4 ? 'z4' : size >= 2 ? 'z2' : 'dim'}`);
    });
    const missing = row[at.missing];
    write(this.complete, missing ? `${fixed(missing, 0)} missing` : '✓');
    paintClass(this.complete, `n extra ${missing ? 'down' : 'up'}`);
    if (now - this.sparkAt > SPARK_MS) {
      this.sparkAt = now;
      this.paintSpark([...row[at.spark], Number(row[at.price])]);
    }
  }

  paintSpark(prices) {
    const { context, width, height } = canvas(this.spark);
    const known = prices.filter((price) => price != null);
    const low = Math.min(...known);
    const high = Math.max(...known);
    const tone = known[known.length - 1] < known[0] ? colours().down : colours().up;
    const x = (index) => 1 + (index / Math.max(1, prices.length - 1)) * (width - 5);
    const y = (price) => (high > low ? 3 + ((high - price) / (high - low)) * (height - 6) : height / 2);
    const path = new Path2D();
    let first = null;
    prices.forEach((price, index) => {
      if (price == null) return;
      if (first === null) path.moveTo(x((first = index)), y(price));
      else path.lineTo(x(index), y(price));
    });
    context.strokeStyle = context.fillStyle = tone;
    context.lineWidth = 1.25;
    context.lineJoin = 'round';
    context.stroke(path);
    context.globalAlpha = 0.1;
    path.lineTo(width - 4, height);
    path.lineTo(x(first), height);
    context.fill(path);
    context.globalAlpha = 1;
    context.beginPath();
    context.arc(width - 4, y(prices[prices.length - 1]), 2, 0, 7);
    context.fill();
  }
}

export class Overview {
  constructor(model) {
    this.model = model;
    this.rows = new Map();
    this.body = $('rows');
    this.body.addEventListener('keydown', (event) => this.key(event));
    onPalette(() => this.show());
  }

  /** Make the rows anew where the feed has others. */
  begin() {
    const { products, windows } = this.model.hello;
    if ([...this.rows.keys()].join() !== products.join()) {
      this.rows = new Map(products.map((product) => [product, new Row(product)]));
      this.body.replaceChildren(...[...this.rows.values()].map((row) => row.element));
    }
    write($('change-title'), `Change ${windows[0]}`);
    write($('market-note'), `${products.length} products · ${windows[0]} windows`);
  }

  /** It comes into sight. */
  show() {
    for (const [product, row] of this.rows) {
      row.sparkAt = 0;
      if (this.model.rows.has(product)) this.model.changed.add(product);
    }
  }

  paint(now, nowUs, slowly) {
    const { model } = this;
    if (!model.hello) return;
    const { at } = model;
    const fresh = [];
    for (const product of model.changed) {
      const row = model.rows.get(product);
      const view = this.rows.get(product);
      if (!view) continue;
      view.paintPrice(row[at.price], now);
      view.slow = true;
      fresh.push(row);
    }
    model.changed.clear();
    if (slowly) {
      for (const [product, view] of this.rows) {
        const row = model.rows.get(product);
        if (row) view.paintRest(row, at, now);
      }
      setHidden($('market-empty'), model.rows.size > 0);
    }
    if (fresh.length) {
      const atUs = nowUs();
      for (const row of fresh) painted(row[at.product], row[at.last_id], row[at.trade_us], atUs);
    }
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...this.body.querySelectorAll('a')];
    const next = links[links.indexOf(document.activeElement) + step];
    if (next) {
      next.focus();
      event.preventDefault();
    }
  }
}
