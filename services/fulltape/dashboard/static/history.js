// History: the warehouse's named questions, their answers as a table, and as lines where they have a time.

import { $, colours, make, onPalette, setHidden, write } from './dom.js';
import { exact, significant } from './format.js';
import { createChart, LineSeries } from './vendor/lightweight-charts.mjs';

const MOST_LINES = 8;
const PLACE = '#/history';
const isId = /(_id|_seconds|_rank)$/; // numbers that no line is drawn of unless asked for

export class History {
  constructor() {
    this.queries = new Map();
    this.answer = null;
    this.asked = 0;
    this.chart = null;
    this.shown = null; // the address whose question was last shown
    $('history-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const place = this.place();
      if (location.hash === place) this.ask();
      else location.hash = place; // which asks
    });
    $('history-name').addEventListener('change', () => this.choose($('history-name').value, new URLSearchParams()));
    $('history-line').addEventListener('change', () => this.draw());
    $('history-csv').addEventListener('click', () => this.download());
    onPalette(() => this.draw());
  }

  /** Find out which questions there are; a server without a warehouse has none, and the page no history. */
  async begin() {
    if (this.queries.size) return;
    const response = await fetch('/history/queries').catch(() => null);
    if (!response?.ok) return;
    this.queries = new Map((await response.json()).map((query) => [query.name, query]));
    $('history-name').replaceChildren(...[...this.queries.keys()].map((name) => make('option', { value: name }, name.replaceAll('_', ' '))));
    setHidden($('history-tab'), this.queries.size === 0);
  }

  /** Show the question that the address names, and its answer where the address tells its parameters. */
  show() {
    const [name, told] = location.hash.slice(PLACE.length + 1).split('?');
    if (location.hash === this.shown || (!name && this.shown)) return; // what is there stays, with what was typed
    this.shown = location.hash;
    this.choose(this.queries.has(name) ? name : [...this.queries.keys()][0], new URLSearchParams(told));
    if (this.queries.has(name)) this.ask();
  }

  choose(name, told) {
    const query = this.queries.get(name);
    $('history-name').value = name;
    write($('history-question'), query.question);
    $('history-parameters').replaceChildren(...query.parameters.map((parameter) => {
      const id = `history-${parameter.name}`;
      const input = make('input', {
        id, name: parameter.name, value: told.get(parameter.name) ?? parameter.default, spellcheck: false, autocomplete: 'off',
        inputMode: parameter.kind === 'integer' ? 'numeric' : 'text',
      });
      input.setAttribute('aria-describedby', `${id}-means`);
      return make(
        'div', {}, make('label', { htmlFor: id }, parameter.name.replaceAll('_', ' ')), input,
        make('small', { id: `${id}-means` }, parameter.description),
      );
    }));
  }

  parameters() {
    return new URLSearchParams([...new FormData($('history-form'))].filter(([name]) => name));
  }

  place() {
    return `${PLACE}/${$('history-name').value}?${this.parameters()}`;
  }

  async ask() {
    const number = ++this.asked;
    const status = $('history-status');
    write(status, 'Asking …');
    status.classList.remove('down');
    const response = await fetch(`/history/query/${$('history-name').value}?${this.parameters()}`).catch(() => null);
    const body = await response?.json().catch(() => null);
    if (number !== this.asked) return; // another question was asked meanwhile
    if (!response?.ok || !body) {
      write(status, body?.error ?? 'The server does not answer; try again.');
      status.classList.add('down');
      return;
    }
    this.answer = { ...body, name: $('history-name').value, sorted: null };
    const rows = `${body.rows.length.toLocaleString('en')} row${body.rows.length === 1 ? '' : 's'}`;
    write(status, `${body.truncated ? `the first ${rows}; ask of less, or use fulltape query` : rows} in ${Math.round(body.seconds * 1000)} ms`);
    this.offerLines();
    this.table();
    setHidden($('history-answer'), false); // before a chart is fitted to its width
    this.draw();
    setHidden($('history-csv'), !body.rows.length);
  }

  table() {
    const { columns, forms, rows, sorted } = this.answer;
    const heads = columns.map((column, index) => {
      const button = make('button', { type: 'button', onclick: () => this.sort(index) }, column.replaceAll('_', ' '));
      const head = make('th', { scope: 'col', className: forms[index] === 'number' ? 'n' : '' }, button);
      if (sorted?.index === index) head.setAttribute('aria-sort', sorted.descending ? 'descending' : 'ascending');
      return head;
    });
    $('history-heads').replaceChildren(make('tr', {}, ...heads));
    $('history-rows').replaceChildren(...rows.map((row) => make(
      'tr', {}, ...row.map((value, index) => make('td', { className: forms[index] === 'number' ? 'n' : '' }, cell(value, forms[index]))),
    )));
    setHidden($('history-none'), rows.length > 0);
  }

  sort(index) {
    const { rows, forms, sorted } = this.answer;
    const descending = sorted?.index === index ? !sorted.descending : forms[index] !== 'text';
    const key = forms[index] === 'number' ? (row) => Number(row[index]) : (row) => row[index];
    const order = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
    rows.sort((one, other) => {
      if (one[index] === null || other[index] === null) return (one[index] === null) - (other[index] === null);
      return order(key(one), key(other)) * (descending ? -1 : 1);
    });
    this.answer.sorted = { index, descending };
    this.table();
    $('history-heads').querySelectorAll('button')[index].focus();
  }

  /** Offer the columns of which lines can be drawn. */
  offerLines() {
    const { columns, forms, rows } = this.answer;
    const numbers = columns.map((name, index) => ({ name, index })).filter(({ index }) => forms[index] === 'number');
    this.answer.time = forms.indexOf('time');
    const drawable = this.answer.time >= 0 && rows.length > 1 && numbers.length > 0;
    setHidden($('history-graph'), !drawable);
    if (!drawable) return;
    $('history-line').replaceChildren(...numbers.map(({ name, index }) => make('option', { value: index }, name.replaceAll('_', ' '))));
    $('history-line').value = (numbers.find(({ name }) => name === 'close_price') ?? numbers.find(({ name }) => !isId.test(name)) ?? numbers[0]).index;
  }

  /** Draw a line for each product, or whatever else the first column of text tells apart. */
  draw() {
    if (!this.answer || $('history-graph').hidden) return;
    const { rows, forms, columns, time } = this.answer;
    const value = Number($('history-line').value);
    const group = columns.indexOf('product') >= 0 ? columns.indexOf('product') : forms.indexOf('text');
    const lines = new Map();
    for (const row of rows) {
      if (row[value] === null || row[time] === null) continue;
      const key = group < 0 ? '' : row[group];
      if (!lines.has(key)) lines.set(key, new Map());
      lines.get(key).set(Math.floor(Date.parse(`${row[time]}Z`) / 1000), Number(row[value]));
    }
    this.chart?.remove();
    const { panel, line, dim, accent, warn, up, down, text } = colours();
    this.chart = createChart($('history-chart'), {
      autoSize: true,
      layout: { attributionLogo: false, fontSize: 11, background: { color: panel }, textColor: dim, fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderVisible: false },
      timeScale: { borderVisible: false, timeVisible: true, secondsVisible: true },
      handleScroll: { vertTouchDrag: false },
    });
    const shades = [accent, warn, up, down, dim, text, `${accent}99`, `${warn}99`];
    const shown = [...lines].slice(0, MOST_LINES);
    shown.forEach(([title, points], index) => {
      this.chart
        .addSeries(LineSeries, { color: shades[index], lineWidth: 2, priceLineVisible: false, title, priceFormat: { type: 'custom', minMove: 1e-10, formatter: significant } })
        .setData([...points].sort(([one], [other]) => one - other).map(([at, number]) => ({ time: at, value: number })));
    });
    this.chart.timeScale().fitContent();
    $('history-chart').setAttribute('aria-label', `${columns[value].replaceAll('_', ' ')} over time${lines.size > shown.length ? `, the first ${MOST_LINES} of ${lines.size}` : ''}`);
  }

  download() {
    const { columns, rows, name } = this.answer;
    const quoted = (value) => (value === null ? '' : /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    const lines = [columns, ...rows].map((row) => row.map(quoted).join(','));
    const address = URL.createObjectURL(new Blob([`${lines.join('\n')}\n`], { type: 'text/csv' }));
    make('a', { href: address, download: `${name}.csv` }).click();
    URL.revokeObjectURL(address);
  }
}

/** A value as a cell shows it: decimals to their last digit that is not zero, statistics to four. */
function cell(value, form) {
  if (value === null) return '–';
  if (form === 'time') return value.replace('T', ' ').replace(/\.?0+$/, (zeros) => (zeros.startsWith('.') ? '' : value.includes('.') ? '' : zeros));
  if (form !== 'number') return String(value);
  if (typeof value === 'string') return exact(value.includes('.') ? value.replace(/\.?0+$/, '') : value);
  return Number.isInteger(value) ? exact(String(value)) : significant(value);
}
