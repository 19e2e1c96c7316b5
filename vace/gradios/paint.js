// A mask painted with the mouse or a finger. Runs once for each canvas, with `element`, `props` and `watch`.
// props.picture: the address of what is painted on, or ""; props.width, props.height: of the source. props.value: the
// mask as a data address of a PNG of that size, white where painted, or "" when nothing is.
const picture = element.querySelector('img');
const stage = element.querySelector('.vace-stage');
const tools = element.querySelector('.vace-tools');
const canvas = element.querySelector('canvas');
const size = tools.querySelector('[data-size]');
const PAINT = '#ff2d8f';
let strokes = [];  // {erase, width, points}
let erase = false;
let hold = null;  // the pointer at work

function place(event) {
  const frame = canvas.getBoundingClientRect();
  return [((event.clientX - frame.left) / frame.width) * canvas.width,
    ((event.clientY - frame.top) / frame.height) * canvas.height];
}

function stroke(pen, {erase: removes, width, points}) {
  pen.globalCompositeOperation = removes ? 'destination-out' : 'source-over';
  pen.lineCap = pen.lineJoin = 'round';
  pen.lineWidth = width;
  pen.strokeStyle = PAINT;
  pen.beginPath();
  pen.moveTo(...points[0]);
  if (points.length === 1) pen.lineTo(points[0][0] + 0.01, points[0][1]);
  points.slice(1).forEach((point) => pen.lineTo(...point));
  pen.stroke();
}

function redraw() {
  const pen = canvas.getContext('2d');
  pen.globalCompositeOperation = 'source-over';
  pen.clearRect(0, 0, canvas.width, canvas.height);
  strokes.forEach((one) => stroke(pen, one));
  tools.querySelector('[data-undo]').disabled = tools.querySelector('[data-clear]').disabled = !strokes.length;
}

// What was painted, white on black.
function write() {
  if (!strokes.some((one) => !one.erase)) {
    props.value = '';
    return;
  }
  const mask = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height});
  const pen = mask.getContext('2d');
  pen.drawImage(canvas, 0, 0);
  pen.globalCompositeOperation = 'source-in';
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, mask.width, mask.height);
  pen.globalCompositeOperation = 'destination-over';
  pen.fillStyle = '#000';
  pen.fillRect(0, 0, mask.width, mask.height);
  props.value = mask.toDataURL('image/png');
}

function down(event) {
  if (!props.width || hold !== null || event.button > 0) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  hold = event.pointerId;
  const width = (Number(size.value) / 100) * Math.min(canvas.width, canvas.height);
  strokes.push({erase, width, points: [place(event)]});
  redraw();
}

function move(event) {
  if (event.pointerId !== hold) return;
  event.preventDefault();
  const passed = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  strokes[strokes.length - 1].points.push(...(passed.length ? passed : [event]).map(place));
  redraw();
}

function up(event) {
  if (event.pointerId !== hold) return;
  hold = null;
  write();
}

function choose(removes) {
  erase = removes;
  tools.querySelector('[data-paint]').setAttribute('aria-pressed', String(!erase));
  tools.querySelector('[data-erase]').setAttribute('aria-pressed', String(erase));
}

// The picture or its size has changed: what was painted belongs to the one before.
function show() {
  const known = props.width > 0 && props.height > 0;
  stage.hidden = tools.hidden = !known;
  element.querySelector('.vace-no-picture').hidden = known;
  if (props.picture && picture.getAttribute('src') !== props.picture) picture.src = props.picture;
  canvas.width = props.width || 1;
  canvas.height = props.height || 1;
  stage.style.aspectRatio = known ? `${props.width} / ${props.height}` : '';
  stage.style.maxWidth = known ? `min(100%, ${Math.round((70 * props.width) / props.height)}vh)` : '';
  redraw();
}

canvas.addEventListener('pointerdown', down);
canvas.addEventListener('pointermove', move);
canvas.addEventListener('pointerup', up);
canvas.addEventListener('pointercancel', up);
tools.querySelector('[data-paint]').addEventListener('click', () => choose(false));
tools.querySelector('[data-erase]').addEventListener('click', () => choose(true));
tools.querySelector('[data-undo]').addEventListener('click', () => { strokes.pop(); redraw(); write(); });
tools.querySelector('[data-clear]').addEventListener('click', () => { strokes = []; redraw(); write(); });
watch(['picture', 'width', 'height'], show);
watch('value', () => { if (!props.value && hold === null) { strokes = []; redraw(); } });
show();
