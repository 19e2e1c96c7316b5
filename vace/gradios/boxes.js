// Boxes drawn with the mouse or a finger. Runs once for each canvas, with `element`, `props`, `watch` and `trigger`.
// props.value: "x1,y1,x2,y2 x1,y1,x2,y2", in pixels of the source however large it is shown. props.picture: an address
// or "" for an empty canvas; props.width, props.height: of the source; props.most: how many boxes can be drawn;
// props.names: what they are called. Boxes beyond the most are kept as they are. Trigger 'drawn': a box was changed.
const SVG = 'http://www.w3.org/2000/svg';
const COLORS = ['#ff2d8f', '#00a7ff', '#ffb000', '#2fbf5b'];
const REACH = {mouse: 10, pen: 14, touch: 22};  // pixels of the screen around a handle that take hold of it
const LEAST = 4;  // pixels of the screen; less is a slip
const CORNERS = [[0, 1], [2, 1], [0, 3], [2, 3]];

const picture = element.querySelector('img');
const stage = element.querySelector('.vace-stage');
const tools = element.querySelector('.vace-tools');
const drawing = element.querySelector('svg');
let boxes = [];  // [x1, y1, x2, y2] or null where the box is not drawn yet
let rest = [];
let active = 0;
let hold = null;  // what the pointer is doing

function parse(text) {
  const numbers = String(text || '').split(/[,\s]+/).filter(Boolean).map(Number);
  const found = [];
  for (let i = 0; i + 4 <= numbers.length; i += 4) found.push(numbers.slice(i, i + 4));
  return found.filter((box) => box.every(Number.isFinite));
}

function read() {
  const found = parse(props.value);
  const most = Math.max(1, props.most || 1);
  boxes = Array.from({length: most}, (_, i) => found[i] || null);
  rest = found.slice(most);
  active = Math.max(0, boxes.indexOf(null) < 0 ? Math.min(active, most - 1) : boxes.indexOf(null));
}

function write() {
  const text = [...boxes.filter(Boolean), ...rest].map((box) => box.join(',')).join(' ');
  if (text === props.value) return;
  props.value = text;
  trigger('drawn');
}

function scale() {
  return props.width / Math.max(1, drawing.getBoundingClientRect().width);
}

function place(event) {
  const frame = drawing.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * props.width;
  const y = ((event.clientY - frame.top) / frame.height) * props.height;
  return [Math.round(Math.min(Math.max(x, 0), props.width)), Math.round(Math.min(Math.max(y, 0), props.height))];
}

function near(a, b, reach) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]) <= reach * scale();
}

function badge(box) {
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

// What lies under the pointer: a corner or the number of a drawn box; the chosen box before the others.
function grip(point, reach) {
  const order = boxes.map((_, i) => i).sort((a, b) => (b === active) - (a === active));
  for (const i of order.filter((i) => boxes[i])) {
    const corner = CORNERS.find(([x, y]) => near(point, [boxes[i][x], boxes[i][y]], reach));
    if (corner) {
      const fixed = [boxes[i][2 - corner[0]], boxes[i][4 - corner[1]]];
      return {kind: 'corner', box: i, fixed, was: [...boxes[i]]};
    }
    if (near(point, badge(boxes[i]), Math.max(reach, 12))) return {kind: 'move', box: i, from: point, was: [...boxes[i]]};
  }
  return {kind: 'draw', box: active, fixed: point, was: boxes[active]};
}

function spanned(a, b) {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
}

function moved(box, dx, dy) {
  const x = Math.min(Math.max(dx, -box[0]), props.width - box[2]);
  const y = Math.min(Math.max(dy, -box[1]), props.height - box[3]);
  return [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
}

function down(event) {
  if (!props.width || hold || event.button > 0) return;
  event.preventDefault();
  drawing.setPointerCapture(event.pointerId);
  hold = {...grip(place(event), REACH[event.pointerType] || REACH.mouse), pointer: event.pointerId};
  active = hold.box;
  draw();
}

function move(event) {
  if (!hold || event.pointerId !== hold.pointer) return;
  event.preventDefault();
  const point = place(event);
  const box = hold.kind === 'move' ? moved(hold.was, point[0] - hold.from[0], point[1] - hold.from[1])
    : spanned(hold.fixed, point);
  boxes[hold.box] = box;
  draw();
}

function up(event) {
  if (!hold || event.pointerId !== hold.pointer) return;
  const box = boxes[hold.box];
  const small = box && Math.min(box[2] - box[0], box[3] - box[1]) < Math.max(1, LEAST * scale());
  if (hold.kind !== 'move' && small) boxes[hold.box] = hold.was || null;
  hold = null;
  if (boxes.includes(null)) active = boxes.indexOf(null);
  write();
  draw();
}

function make(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  drawing.append(node);
}

function drawBox(box, index, unit) {
  const color = COLORS[index % COLORS.length];
  const [x, y] = badge(box);
  const size = {x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1]};
  make('rect', {...size, fill: color, 'fill-opacity': index === active ? 0.22 : 0.1, stroke: color,
    'stroke-width': 2.5 * unit});
  for (const [cx, cy] of CORNERS) {
    make('circle', {cx: box[cx], cy: box[cy], r: 6 * unit, fill: '#fff', stroke: color, 'stroke-width': 2.5 * unit});
  }
  make('circle', {cx: x, cy: y, r: 12 * unit, fill: color});
  make('text', {x, y, fill: '#fff', 'font-size': 14 * unit, 'font-weight': 700, 'text-anchor': 'middle',
    'dominant-baseline': 'central'}, String(index + 1));
}

function drawArrow(from, to, unit) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  if (length < 40 * unit) return;
  const [dx, dy] = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
  const start = [from[0] + dx * 14 * unit, from[1] + dy * 14 * unit];
  const end = [to[0] - dx * 16 * unit, to[1] - dy * 16 * unit];
  const side = (s) => [end[0] - (dx * 12 + s * dy * 7) * unit, end[1] - (dy * 12 - s * dx * 7) * unit].join(',');
  const line = {x1: start[0], y1: start[1], x2: end[0], y2: end[1], 'stroke-linecap': 'round'};
  make('line', {...line, stroke: '#000', 'stroke-opacity': 0.5, 'stroke-width': 6 * unit});
  make('line', {...line, stroke: '#fff', 'stroke-width': 3 * unit});
  make('polygon', {points: [end.join(','), side(1), side(-1)].join(' '), fill: '#fff', stroke: '#000',
    'stroke-opacity': 0.5, 'stroke-width': unit});
}

function draw() {
  const unit = scale();
  drawing.replaceChildren();
  boxes.forEach((box, i) => box && drawBox(box, i, unit));
  if (boxes.length === 2 && boxes[0] && boxes[1]) drawArrow(badge(boxes[0]), badge(boxes[1]), unit);
  tools.querySelectorAll('[data-box]').forEach((button) => {
    button.setAttribute('aria-pressed', String(Number(button.dataset.box) === active));
  });
  tools.querySelector('[data-clear]').disabled = !boxes.some(Boolean);
}

function button(text, data, act, color) {
  const node = document.createElement('button');
  node.type = 'button';
  node.textContent = text;
  Object.assign(node.dataset, data);
  if (color) node.style.setProperty('--box', color);
  node.addEventListener('click', act);
  tools.append(node);
}

// The source has changed: its size, its picture, how many boxes there are.
function show() {
  const known = props.width > 0 && props.height > 0;
  stage.hidden = tools.hidden = !known;
  element.querySelector('.vace-no-picture').hidden = known;
  picture.hidden = !props.picture;
  if (props.picture && picture.getAttribute('src') !== props.picture) picture.src = props.picture;
  drawing.setAttribute('viewBox', `0 0 ${props.width || 1} ${props.height || 1}`);
  stage.style.aspectRatio = known ? `${props.width} / ${props.height}` : '';
  stage.style.maxWidth = known ? `min(100%, ${Math.round((70 * props.width) / props.height)}vh)` : '';
  tools.replaceChildren();
  const names = props.names || [];
  if ((props.most || 1) > 1) {
    for (let i = 0; i < props.most; i += 1) {
      const label = `${i + 1} ${names[i] || ''}`.trim();
      button(label, {box: i}, () => { active = i; draw(); }, COLORS[i % COLORS.length]);
    }
  }
  button('Clear', {clear: ''}, () => { boxes.fill(null); active = 0; write(); draw(); });
  read();
  draw();
}

drawing.addEventListener('pointerdown', down);
drawing.addEventListener('pointermove', move);
drawing.addEventListener('pointerup', up);
drawing.addEventListener('pointercancel', up);
new ResizeObserver(() => draw()).observe(drawing);
watch(['picture', 'width', 'height', 'most', 'names'], show);
watch('value', () => { if (!hold) { read(); draw(); } });
show();
