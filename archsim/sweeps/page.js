const data = JSON.parse(document.getElementById('data').textContent);
const columns = data.shown.map(name => data.columns.indexOf(name));
const head = document.querySelector('#points thead'), body = document.querySelector('#points tbody');
let rows = data.rows.slice(), sorted = null, up = true;
function text(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number' && !Number.isInteger(value)) return Number(value.toPrecision(6)).toString();
  return String(value);
}
function draw() {
  const wanted = document.getElementById('filter').value.toLowerCase();
  const kept = rows.filter(row => !wanted || columns.some(i => text(row[i]).toLowerCase().includes(wanted)));
  body.replaceChildren(...kept.slice(0, 2000).map(row => {
    const line = document.createElement('tr');
    for (const i of columns) {
      const cell = document.createElement('td');
      cell.textContent = text(row[i]);
      cell.className = data.columns[i] === 'error' ? 'error' : typeof row[i] === 'number' ? 'number' : '';
      line.append(cell);
    }
    return line;
  }));
  const shown = Math.min(kept.length, 2000);
  document.getElementById('count').textContent = `${shown} of ${data.rows.length} points`;
}
function sort(column) {
  up = sorted === column ? !up : true;
  sorted = column;
  const sign = up ? 1 : -1;
  rows.sort((a, b) => {
    const x = a[column], y = b[column];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (typeof x === 'number' && typeof y === 'number' ? x - y
      : String(x).localeCompare(String(y), 'en', {numeric: true})) * sign;
  });
  for (const cell of head.querySelectorAll('th'))
    cell.setAttribute('aria-sort', Number(cell.dataset.column) === column ? (up ? 'ascending' : 'descending') : 'none');
  draw();
}
const line = document.createElement('tr');
for (const i of columns) {
  const cell = document.createElement('th');
  cell.textContent = data.columns[i];
  cell.dataset.column = i;
  cell.title = 'sort';
  cell.addEventListener('click', () => sort(i));
  line.append(cell);
}
head.append(line);
document.getElementById('filter').addEventListener('input', draw);
document.getElementById('download').addEventListener('click', () => {
  const quoted = value => /[",\n]/.test(text(value)) ? '"' + String(value).replaceAll('"', '""') + '"'
    : value === null || value === undefined ? '' : String(value);
  const lines = [data.columns, ...data.rows].map(row => row.map(quoted).join(',')).join('\n');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([lines + '\n'], {type: 'text/csv'}));
  link.download = 'results.csv';
  link.click();
});
draw();
