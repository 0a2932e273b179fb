'use strict';
const images = JSON.parse(document.getElementById('data').textContent).images;
const list = document.getElementById('cards');
const cards = [...list.children];
const classChoice = document.getElementById('class');
const order = document.getElementById('order');
const large = document.getElementById('large');
let visible = cards;
let current = -1;

// ------------------------------------------------------------------ gallery
// what has no figure comes last
const valueOf = {
  iou: (image) => (classChoice.value ? image.ious[classChoice.value] : image.iou) ?? Infinity,
  confidence: (image) => image.confidence ?? Infinity,
  name: (image) => image.name,
};

function arrange() {
  const label = Number(classChoice.value);
  const of = (card) => images[Number(card.dataset.index)];
  const value = (card) => valueOf[order.value](of(card));
  visible = cards.filter((card) => !label || of(card).classes.includes(label));
  visible.sort((a, b) => {
    const first = value(a), second = value(b);
    // equal ones stay in the order of the page
    return first === second ? a.dataset.index - b.dataset.index : first < second ? -1 : 1;
  });
  for (const card of cards) {
    card.hidden = true;
    card.classList.remove('current');
  }
  for (const card of visible) {
    card.hidden = false;
    list.append(card);
  }
  current = -1;
  document.getElementById('count').value = `${visible.length} of ${cards.length}`;
}

function go(position) {
  if (!visible.length) return;
  visible[current]?.classList.remove('current');
  current = Math.min(Math.max(position, 0), visible.length - 1);
  const card = visible[current];
  card.classList.add('current');
  card.scrollIntoView({ block: 'start' });
  if (large.open) {
    show();
  } else {
    card.focus({ preventScroll: true });
  }
}

function show() {
  const copy = [...visible[current].children].map((child) => child.cloneNode(true));
  document.getElementById('shown').replaceChildren(...copy);
  if (!large.open) large.showModal();
}

list.addEventListener('click', (event) => {
  const card = event.target.closest('.card');
  if (!card) return;
  go(visible.indexOf(card));
  show();
});
list.addEventListener('focusin', (event) => {
  const position = visible.indexOf(event.target.closest('.card'));
  if (position >= 0 && position !== current) {
    visible[current]?.classList.remove('current');
    current = position;
  }
});
document.getElementById('next').addEventListener('click', () => go(current + 1));
document.getElementById('previous').addEventListener('click', () => go(current - 1));
document.addEventListener('keydown', (event) => {
  const typing = event.target.matches('select, button, a');
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === 'j' || event.key === 'k') {
    if (event.target.matches('select')) return;
  } else if (typing && !large.open) {
    return;
  }
  if (event.key === 'j' || event.key === 'ArrowRight') {
    go(current + 1);
  } else if (event.key === 'k' || event.key === 'ArrowLeft') {
    go(current - 1);
  } else if (event.key === 'Enter' && current >= 0 && !large.open) {
    show();
  } else {
    return;
  }
  event.preventDefault();
});
for (const choice of [classChoice, order]) choice.addEventListener('change', arrange);
for (const button of document.querySelectorAll('button.class')) {
  button.addEventListener('click', () => {
    classChoice.value = button.dataset.label;
    arrange();
    document.getElementById('gallery').scrollIntoView();
  });
}
arrange();

// ------------------------------------------------------------------- tables
function sortRows(head) {
  const table = head.closest('table');
  const heads = [...head.parentElement.children];
  const column = heads.indexOf(head);
  const isText = head.dataset.type === 'text';
  // numbers begin with the largest, names with A
  const before = head.getAttribute('aria-sort');
  const rising = before ? before === 'descending' : isText;
  for (const other of heads) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', rising ? 'ascending' : 'descending');
  const value = (row) => row.children[column].dataset.value;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const first = value(a), second = value(b);
    if (first === '' || second === '') return Number(first === '') - Number(second === '');
    const difference = isText ? first.localeCompare(second) : first - second;
    return rising ? difference : -difference;
  });
  table.tBodies[0].append(...rows);
}
for (const head of document.querySelectorAll('.sortable thead th')) {
  head.firstElementChild.addEventListener('click', () => sortRows(head));
}
