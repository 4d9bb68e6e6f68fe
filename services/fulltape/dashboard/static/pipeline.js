// The pipeline's own health: how long the newest trades took through each stage, and how many there are.

import { $, canvas, colours, font, make, onPalette, paintClass, write } from './dom.js';
import { exact, fixed, latency, span } from './format.js';
import { glassHistograms, painted } from './glass.js';

/** Upper end of a bucket, in microseconds. */
const upper = ({ first_us: first, per_octave: steps }, bucket) => first * 2 ** (bucket / steps);

/** A quantile of a histogram, within its bucket by the logarithm. */
export function quantile(histogram, counts, share) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let left = share * total;
  for (let bucket = 0; bucket < counts.length; bucket += 1) {
    if (counts[bucket] >= left) return upper(histogram, bucket - 1 + left / counts[bucket]);
    left -= counts[bucket];
  }
  return upper(histogram, counts.length - 1);
}

export class Pipeline {
  constructor(model) {
    this.model = model;
    this.cards = {};
    const names = { rate: 'Trades per second', windows: 'Windows per second', missing: 'Missing trades', gaps: 'Written off since start', browsers: 'Browsers', undecodable: 'Unreadable messages', newest: 'Newest trade' };
    $('cards').append(...Object.entries(names).map(([id, name]) => {
      this.cards[id] = make('dd', {}, '–');
      return make('div', {}, make('dt', {}, name), this.cards[id]);
    }));
    onPalette(() => {
      this.model.healthChanged = true;
    });
  }

  begin() {
    const names = [...this.model.hello.stages, 'dashboard to glass', 'trade to glass'];
    this.stages = names.map((name) => {
      const drawing = make('canvas');
      const [median, tail] = [make('span', {}, '–'), make('span', {}, '–')];
      drawing.setAttribute('aria-hidden', 'true');
      const title = make('strong', {}, name[0].toUpperCase() + name.slice(1));
      return { drawing, median, tail, row: make('div', { className: name === 'trade to glass' ? 'whole' : '' }, title, drawing, median, tail) };
    });
    this.axis = make('canvas');
    this.axis.setAttribute('aria-hidden', 'true');
    const head = make('div', { className: 'axis' }, make('strong', {}, ''), this.axis, make('span', { className: 'dim' }, 'median'), make('span', { className: 'dim' }, 'p99'));
    $('stages').replaceChildren(head, ...this.stages.map(({ row }) => row));
  }

  /** Paint the newest trade of all: what the way to the glass is measured on here. */
  paintNewest(nowUs) {
    const { at, changed, rows } = this.model;
    let newest = null;
    for (const name of changed) {
      const row = rows.get(name);
      if (!newest || row[at.trade_us] > newest[at.trade_us]) newest = row;
    }
    changed.clear();
    if (!newest) return;
    write(this.cards.newest, `${newest[at.product].split('-')[0]} ${exact(newest[at.price])}`);
    painted(newest[at.product], newest[at.last_id], newest[at.trade_us], nowUs());
  }

  paint() {
    const { health, hello } = this.model;
    if (!health || !this.stages) return;
    const { histogram } = hello;
    write(this.cards.rate, fixed(health.trades_per_second, 0));
    write(this.cards.windows, fixed(health.windows_per_second, 0));
    write(this.cards.missing, fixed(health.missing, 0));
    paintClass(this.cards.missing, health.missing ? 'down' : 'up');
    write(this.cards.gaps, fixed(health.gaps, 0));
    write(this.cards.browsers, fixed(health.browsers, 0));
    write(this.cards.undecodable, fixed(health.undecodable, 0));
    const histograms = [...health.stages, ...glassHistograms(histogram)];
    histograms.forEach((counts, index) => {
      const stage = this.stages[index];
      write(stage.median, latency(quantile(histogram, counts, 0.5)));
      write(stage.tail, latency(quantile(histogram, counts, 0.99)));
      this.draw(stage.drawing, counts, index === histograms.length - 1);
    });
    this.drawAxis(histogram);
    this.drawRates(health.rates);
  }

  draw(drawing, counts, whole) {
    const { context, width, height } = canvas(drawing);
    const most = Math.max(1, ...counts);
    const step = width / counts.length;
    const { accent, line, up } = colours();
    context.fillStyle = line;
    context.fillRect(0, height - 1, width, 1);
    context.fillStyle = whole ? accent : up;
    counts.forEach((count, bucket) => {
      if (!count) return;
      const tall = Math.max(1.5, Math.sqrt(count / most) * (height - 4)); // the root keeps the tail in sight
      context.fillRect(bucket * step + 0.5, height - 1 - tall, Math.max(1, step - 1), tall);
    });
  }

  drawAxis(histogram) {
    const { context, width, height } = canvas(this.axis);
    context.fillStyle = colours().dim;
    context.font = font(11);
    context.textAlign = 'center';
    for (const [us, text] of [[1000, '1 ms'], [10_000, '10 ms'], [100_000, '100 ms'], [1_000_000, '1 s'], [10_000_000, '10 s']]) {
      const at = 1 + histogram.per_octave * Math.log2(us / histogram.first_us);
      context.fillText(text, (at / histogram.buckets) * width, height - 4);
    }
  }

  drawRates(rates) {
    const drawing = $('rates');
    const { context, width, height } = canvas(drawing);
    const [left, right, top, bottom] = [16, width - 16, 22, height - 12];
    const most = Math.max(10, ...rates) * 1.1;
    const { accent, fill, line, dim } = colours();
    const x = (index) => right - ((rates.length - 1 - index) / 299) * (right - left);
    const y = (rate) => bottom - (rate / most) * (bottom - top);
    context.fillStyle = line;
    for (const share of [0, 0.5, 1]) context.fillRect(left, bottom - share * (bottom - top), right - left, 1);
    if (rates.length > 1) {
      const path = new Path2D();
      rates.forEach((rate, index) => path.lineTo(x(index), y(rate)));
      context.strokeStyle = accent;
      context.lineWidth = 1.5;
      context.stroke(path);
      path.lineTo(right, bottom);
      path.lineTo(x(0), bottom);
      context.fillStyle = fill;
      context.fill(path);
    }
    context.fillStyle = dim;
    context.font = font(11);
    context.fillText(fixed(Math.max(0, ...rates), 0) + ' at most', left, top - 8);
    drawing.setAttribute('aria-label', `Trades per second over the last ${span(rates.length)}: ${fixed(rates.at(-1) ?? 0, 0)} now`);
  }
}
