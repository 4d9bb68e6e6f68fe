// How values are written: exact prices with thousands apart, percentages, latencies, times.

const NONE = '–';
const byDecimals = new Map();

function number(decimals) {
  let format = byDecimals.get(decimals);
  if (!format) {
    format = new Intl.NumberFormat('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    byDecimals.set(decimals, format);
  }
  return format;
}

/** How many digits an exact decimal string has after its point. */
export function decimals(text) {
  const point = text.indexOf('.');
  return point < 0 ? 0 : text.length - point - 1;
}

/** An exact decimal string with thousands apart; no digit is lost. */
export function exact(text) {
  const point = text.indexOf('.');
  const whole = point < 0 ? text : text.slice(0, point);
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (point < 0 ? '' : text.slice(point));
}

export const fixed = (value, digits) => (value == null ? NONE : number(digits).format(value));

/** Without the sign of a rounded zero. */
function signed(text) {
  return /^[-+]?[0.,]*%?$/.test(text) ? text.replace(/^[-+]/, '') : text.startsWith('-') ? '−' + text.slice(1) : '+' + text;
}

export const change = (fraction) => (fraction == null ? NONE : signed(fixed(fraction * 100, 2) + '%'));
export const z = (value) => (value == null ? NONE : signed(fixed(value, 1)));
export const mood = (value) => (value == null ? NONE : signed(fixed(value, 2)));
export const percent = (fraction, digits = 1) => (fraction == null ? NONE : fixed(fraction * 100, digits) + '%');

/** A volatility: whole percents where it is wild. */
export const volatility = (value) => percent(value, Math.abs(value) >= 1 ? 0 : 1);

export const significant = (value) => {
  if (value == null) return NONE;
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 1e-4 && size < 1e7 ? fixed(value, Math.max(0, 3 - Math.floor(Math.log10(size)))) : value.toExponential(2);
};

/** A latency in microseconds. */
export function latency(us) {
  if (us == null || !Number.isFinite(us)) return NONE;
  if (us < 1000) return `${(us / 1000).toFixed(1)} ms`;
  return us < 1e6 ? `${Math.round(us / 1000)} ms` : us < 1e8 ? `${(us / 1e6).toFixed(1)} s` : NONE;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Local time of day; the day too where it is not today's. */
export function time(us) {
  const at = new Date(us / 1000);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
}

/** Local time of day; of many equal seconds one formatting serves. */
let lastSecond = 0;
let lastText = '';
export function tick(us) {
  const second = Math.floor(us / 1e6);
  if (second !== lastSecond) [lastSecond, lastText] = [second, clock.format(new Date(second * 1000))];
  return lastText;
}

export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
