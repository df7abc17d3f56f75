/** The console of the first gateway, while a crowd claims and operators act. The tests are steps of one story, in this order. */

import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import {after, test} from 'node:test';

import {ask, browse, eventually, nodes, picture} from './browser.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

const site = nodes();
const [own, second, third] = site;
assert.ok(own && second && third);
const api = `${own.admin}/admin/v1`;
const {page, watched, close} = await browse();
after(close);

let broken = '';

/**
 * A step of the story. After one that fails the others would only wait for what cannot come.
 *
 * @param {string} name
 * @param {() => Promise<void>} does
 */
function step(name, does) {
  test(name, async (context) => {
    if (broken !== '') return context.skip(`after “${broken}”`);
    try {
      await does();
    } catch (error) {
      broken = name;
      await picture(page, 'broken');
      throw error;
    }
  });
}

/** @param {number} number */
const told = (number) => new Intl.NumberFormat('en').format(number);

/** @param {string} selector */
const text = async (selector) => ((await page.locator(selector).first().textContent()) ?? '').trim();

/** @param {string} sale */
async function choose(sale) {
  await page.goto(`${own?.admin}/#sale=${sale}`);
  const {name} = await ask(`${api}/sales/${sale}`);
  await page.locator('#sale:not([hidden]) #sale-name', {hasText: name}).waitFor();
}

/**
 * Presses a button, and confirms.
 *
 * @param {string} button
 * @param {(effect: string) => void} [look] At what the confirmation says.
 */
async function act(button, look = () => {}) {
  await page.click(button);
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  look(await text('#confirm-effect'));
  await page.click('#confirm-yes');
  await page.locator('#confirm[data-stage="done"]').waitFor();
  assert.equal(await page.locator('#confirm-said').getAttribute('data-is'), 'good', await text('#confirm-said'));
  await page.click('#confirm-no');
}

/**
 * The newest line of the audit log is of this, on the page as in the API.
 *
 * @param {string} what
 * @param {string} subject
 * @param {RegExp} words
 */
async function logged(what, subject, words) {
  await eventually(`${what} of ${subject} is in the log`, async () => {
    const [newest] = (await ask(`${api}/changes?limit=1`)).changes;
    assert.deepEqual([newest.what, newest.subject, newest.who], [what, subject, 'local/ann@shop.example']);
    assert.match(await text('#log > li'), words);
  });
}

/** Something to wait for, until it is let go. */
function gate() {
  let open = () => {};
  /** @type {Promise<void>} */
  const opened = new Promise((resolve) => (open = resolve));
  return {opened, open};
}

/** @param {string} sale */
const definition = (sale) => ask(`${api}/sales/${sale}`);

/** Adds a tool for this page alone; the policy forbids it to bring its own scripts. */
async function violations() {
  const axe = page.context();
  assert.ok(axe);
  if (!(await page.evaluate(() => 'axe' in window))) {
    const {readFileSync} = await import('node:fs');
    await page.evaluate(readFileSync(AXE, 'utf8'));
  }
  const found = await page.evaluate(async () => {
    /** @type {any} */
    const {axe} = window;
    const {violations, incomplete} = await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']});
    return {violations, unsure: incomplete.filter((/** @type {any} */ rule) => rule.id === 'color-contrast').length};
  });
  return found.violations.map((/** @type {any} */ rule) => `${rule.id}: ${rule.nodes.map((/** @type {any} */ node) => node.html).join(' | ')}`);
}

/** The page is without fault, in both themes. @param {string} where */
async function accessible(where) {
  for (const colorScheme of /** @type {const} */ (['dark', 'light'])) {
    await page.emulateMedia({colorScheme, reducedMotion: 'reduce'});
    assert.deepEqual(await violations(), [], `${where}, ${colorScheme}`);
  }
  await page.emulateMedia({reducedMotion: null});
}

step('the page opens, lists every sale, and says that all is well', async () => {
  await page.goto(own.admin);
  await page.click('#who');
  await page.fill('#operator', 'ann@shop.example');
  await page.keyboard.press('Enter');
  await page.locator('#feed[data-is="live"]').waitFor();
  const {sales} = await ask(`${api}/sales`);
  await eventually('every sale is listed', async () => {
    const listed = await page.locator('#sales-list a').evaluateAll((links) =>
      links.map((link) => [link.querySelector('.id')?.textContent, link.querySelector('.phase')?.textContent]),
    );
    const expected = sales.map((/** @type {any} */ {sale, phase}) => [sale, phase.replace('_', ' ')]);
    assert.deepEqual(listed.toSorted(), expected.toSorted());
  });
  await eventually('all is well', async () => assert.match(await text('#verdict-said'), /^All is well: 5 sales add up, 3 nodes are alive.*The store was not compared here\.$/));
  assert.match(await text('#node'), new RegExp(`^${own.name}$`));
});

step('the balance of a sale is the one that the API tells, pool by pool', async () => {
  await choose('quiet');
  const {legs} = await ask(`${api}/sales/quiet/balance`);
  await eventually('the page says so', async () => {
    const shown = await page.locator('#balance .equation').allTextContents();
    const expected = legs.map((/** @type {any} */ leg) => `${leg.capacity} = ${leg.free} free + ${leg.held} held + ${leg.sold} sold`);
    assert.deepEqual(shown, expected);
  });
  assert.equal(await text('#balance-mark'), '✓ adds up; the store was not compared here');
  const widths = await page.locator('#balance > li:first-child .stack span').evaluateAll((spans) => spans.map((span) => span.getBoundingClientRect().width));
  const whole = widths.reduce((sum, width) => sum + width, 0);
  const parts = [legs[0].free, legs[0].held, legs[0].sold].map((units) => units / legs[0].capacity);
  widths.forEach((width, index) => assert.ok(Math.abs(width / whole - (parts[index] ?? 0)) < 0.01, `${widths} of ${whole}`));
});

step('every leg of a train is told as the API tells it, beside what the store says', async () => {
  await choose('train');
  await page.click('#legs-summary');
  await page.locator('#legs tbody tr').first().waitFor();
  const {legs} = await ask(`${api}/sales/train/balance`);
  const rows = await page.locator('#legs tbody tr').evaluateAll((rows) => rows.map((row) => [...row.children].slice(0, 8).map((cell) => cell.textContent)));
  const row = (/** @type {any} */ leg) => [leg.pool, `${leg.from} – ${leg.to}`, ...[leg.capacity, leg.free, leg.held, leg.sold, leg.store.held, leg.store.paid].map(told)];
  assert.deepEqual(rows, legs.map(row));
  const scarcest = Math.min(...legs.filter((/** @type {any} */ leg) => leg.pool === 'second').map((/** @type {any} */ leg) => leg.free));
  assert.match(await text('#balance .equation'), new RegExp(`= ${scarcest} free`));
  const balance = await ask(`${api}/sales/train/balance`);
  assert.ok((await page.locator('#legs tbody td:last-child').allTextContents()).every((mark) => mark === '✓ adds up'));
  Object.assign(balance.legs[0].store, {held: balance.legs[0].store.held + 3});
  balance.drift = {units: 3, in_motion: false, orders: [], why_no_orders: 'too many to look through'};
  await page.route('**/sales/train/balance', (route) => route.fulfill({json: balance}));
  await page.locator('#legs-drift').waitFor();
  assert.match(await text('#legs-drift'), /differ by 3 units\. Which orders, is not known: too many to look through/);
  assert.equal(await text('#legs tbody td:last-child'), '✗ the store differs');
  assert.doesNotMatch(await text('#legs'), /units of difference|the store agrees/);
  await page.unroute('**/sales/train/balance');
  await page.locator('#legs-drift').waitFor({state: 'detached'});
  await page.click('#legs-summary');
});

step('each node has a lane with the shard that the API tells', async () => {
  await choose('quiet');
  await eventually('the lanes are those of the API', async () => {
    const {nodes: beats} = await ask(`${api}/sales/quiet/balance`);
    const expected = beats.map((/** @type {any} */ beat) => [beat.node, `${beat.shards.stalls} left`]).toSorted();
    const shown = await page.locator('#lanes > li').evaluateAll((lanes) =>
      lanes.map((lane) => [lane.querySelector('.name')?.textContent, lane.querySelector('.shards .units')?.textContent?.split(',')[0]]),
    );
    assert.deepEqual(shown, expected);
    assert.equal(shown.length, 3);
  });
  assert.equal(await text('#lanes-mark'), '3 alive');
});

step('claims are told by outcome, as all nodes have counted them', async () => {
  let counted = 0;
  for (const {admin} of [own, second, third]) {
    const metrics = await (await fetch(`${admin}/metrics`)).text();
    counted += Number(/^rushgate_claims_total\{[^}]*sale="quiet"[^}]*outcome="held"[^}]*\} (\d+)/m.exec(metrics)?.[1] ?? 0);
  }
  assert.equal(counted, 12);
  await eventually('the page has the sum', async () => assert.equal(await text('#claims-table [data-key="held"] .total'), '12'));
  await page.locator('#claims-choice label', {hasText: 'all sales'}).click();
  await eventually('all sales have more', async () => assert.ok(Number((await text('#claims-table [data-key="held"] .total')).replaceAll(',', '')) > 12));
  await page.locator('#claims-choice label', {hasText: 'this sale'}).click();
  await choose('rush');
  await eventually('the crowd is seen', async () => assert.ok(Number(await text('#claims-table [data-key="held"] .now')) > 1));
  assert.ok(await page.locator('#claims-chart canvas').evaluate((canvas) => canvas instanceof HTMLCanvasElement && canvas.width > 200));
  await eventually('latency is seen', async () => assert.match(await text('#latency-table [data-key="held"] .p99'), /^[\d.]+ m?s$/));
});

step('every backend answers, and the page says how fast', async () => {
  for (const [name, backend] of [['inventory', 'redis'], ['queue', 'rabbitmq'], ['store', 'mysql']]) {
    await eventually(`${name} answers`, async () => assert.match(await text(`#health [data-key="${name}"]`), new RegExp(`^✓${name}${backend}answers in`)));
  }
});

step('a pause names what buyers hear and how many hold, and a resume takes it back', async () => {
  await choose('quiet');
  await act('#do-pause', (effect) => {
    assert.match(effect, /409 paused/);
    assert.match(effect, /108 units stay free/);
    assert.match(effect, /7 units are held and unpaid/);
  });
  await logged('sale.pause', 'quiet', /ann@shop\.example paused quiet/);
  assert.equal((await definition('quiet')).state, 'paused');
  await eventually('buyers hear it', async () => {
    const body = JSON.stringify({lines: [{pool: 'stalls', quantity: 1}]});
    const heard = await fetch(`${second.public}/v1/sales/quiet/orders`, {method: 'POST', headers: {'X-Buyer-Id': 'q-paused', 'Content-Type': 'application/json'}, body});
    assert.equal((await heard.json()).code, 'paused');
  });
  await eventually('the page says so', async () => assert.equal(await text('#sale-facts .chip'), 'paused'));
  await act('#do-resume', (effect) => assert.match(effect, /claim again/));
  await logged('sale.resume', 'quiet', /resumed quiet/);
  assert.equal((await definition('quiet')).state, 'active');
});

step('stock is added as the confirmation says, and what is held or sold cannot be taken away', async () => {
  await page.locator('#do-stock').waitFor();
  await page.click('#do-stock');
  await page.selectOption('#stock-pool', 'balcony');
  await page.fill('#stock-delta', '-18');
  await page.locator('#confirm-said[data-is="bad"]').waitFor();
  assert.match(await text('#confirm-said'), /held or sold/);
  assert.ok(await page.locator('#confirm-yes').isDisabled());
  await page.fill('#stock-delta', '5');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  assert.match(await text('#confirm-effect'), /balcony becomes 25 instead of 20/);
  assert.match(await text('#confirm-told'), /balcony becomes 25 instead of 20/);
  await picture(page, 'confirm', {shown: true});
  await page.click('#confirm-yes');
  await page.locator('#confirm[data-stage="done"]').waitFor();
  await page.click('#confirm-no');
  await logged('sale.stock', 'quiet', /pool balcony capacity: 20 → 25/);
  assert.deepEqual((await definition('quiet')).pools.map((/** @type {any} */ pool) => pool.capacity), [100, 25]);
  await eventually('the balance follows', async () => assert.match(await text('#balance > li:last-child .equation'), /^25 = /));
});

step('what is confirmed is what was told of, even where the answer to an earlier question comes late', async () => {
  await choose('quiet');
  await page.click('#do-stock');
  await page.selectOption('#stock-pool', 'balcony');
  const late = gate();
  await page.route('**/stock?dry_run=true', async (route) => {
    if (route.request().postDataJSON().delta === 7) await late.opened;
    await route.continue();
  });
  const asked = page.waitForRequest((request) => request.url().includes('dry_run') && request.postDataJSON().delta === 7);
  await page.fill('#stock-delta', '7');
  await asked;
  // From here on no keystroke is followed by a question of its own.
  await page.evaluate(() => {
    const real = window.setTimeout;
    Object.assign(window, {real, setTimeout: (/** @type {() => void} */ does, /** @type {number} */ wait) => real(does, wait === 200 ? 3_600_000 : wait)});
  });
  await page.fill('#stock-delta', '2');
  const answered = page.waitForResponse('**/stock?dry_run=true');
  late.open();
  await (await answered).finished();
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  assert.equal(await page.locator('#confirm').getAttribute('data-stage'), 'asking');
  assert.equal(await text('#confirm-effect'), '');
  await page.evaluate(() => Object.assign(window, {setTimeout: Reflect.get(window, 'real')}));
  await page.unroute('**/stock?dry_run=true');
  await page.fill('#stock-delta', '2');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  assert.match(await text('#confirm-effect'), /balcony becomes 27 instead of 25/);
});

step('a confirmation that is pressed again and again is done once, and stays until it is known how that ended', async () => {
  const doing = gate();
  /** @type {unknown[]} */
  const done = [];
  await page.route('**/stock', async (route) => {
    done.push(route.request().postDataJSON());
    await doing.opened;
    await route.continue();
  });
  await page.click('#confirm-yes');
  await page.evaluate(() => /** @type {HTMLFormElement} */ (document.getElementById('confirm-form')).requestSubmit());
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#confirm[open]').getAttribute('data-stage'), 'doing');
  doing.open();
  await page.locator('#confirm[data-stage="done"]').waitFor();
  assert.deepEqual(done, [{pool: 'balcony', delta: 2}]);
  await page.click('#confirm-no');
  await page.unroute('**/stock');
  assert.deepEqual((await definition('quiet')).pools.map((/** @type {any} */ pool) => pool.capacity), [100, 27]);
});

step('a sale is opened before its time, and closed for good', async () => {
  await choose('planned');
  await act('#do-open', (effect) => assert.match(effect, /4,000 units are free/));
  await logged('sale.open', 'planned', /opened planned/);
  await page.locator('#do-close').waitFor();
  await act('#do-close', (effect) => {
    assert.match(effect, /cannot be taken back/);
    assert.match(effect, /4,000 units stay unsold/);
  });
  await logged('sale.close', 'planned', /closed planned/);
  assert.equal((await definition('planned')).state, 'closed');
  await eventually('nothing but its stock can be changed', async () => {
    assert.deepEqual(await page.locator('#sale-actions button').allTextContents(), ['Add stock …']);
  });
  await page.click('#do-stock');
  await page.fill('#stock-delta', '5');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  assert.match(await text('#confirm-effect'), /The sale is closed: who claims hears “410 closed”/);
  await page.click('#confirm-no');
});

step('the slider previews what the planner says, and sets the buffer at every node', async () => {
  await choose('quiet');
  await page.locator('#tune-preview tbody tr').first().waitFor();
  await page.focus('#tune-slider');
  const before = Number(await page.inputValue('#tune-amount'));
  for (let step = 0; step < 12; step += 1) await page.keyboard.press('ArrowRight');
  assert.equal(Number(await page.inputValue('#tune-amount')), before + 12);
  const wanted = `${before + 12}%`;
  await eventually('the preview is the planner’s', async () => {
    const {pools} = await ask(`${api}/sales/quiet/plan?buffer=${encodeURIComponent(wanted)}`);
    const shown = await page.locator('#tune-preview tbody tr').evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll('th, td > b')].map((cell) => cell.textContent)));
    assert.deepEqual(shown, pools.map((/** @type {any} */ pool) => [pool.pool, ...[pool.buffer_units, pool.stranded_units, pool.needless_claims_max].map(told)]));
  });
  await act('#tune-apply', (effect) => assert.match(effect, /3 nodes/));
  await logged('sale.buffer', 'quiet', new RegExp(`buffer: .*${wanted}`));
  assert.equal((await definition('quiet')).buffer, wanted);
  await eventually('the page says so', async () => assert.equal(await text('#tune-set'), `${wanted} is set`));
  // Whoever applies at once, before the preview has come, is told of the same buffer.
  await page.fill('#tune-amount', '33');
  await page.press('#tune-amount', 'Enter');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  assert.match(await text('#confirm-effect'), /With 33% at 3 nodes/);
  await page.click('#confirm-no');
  await page.click('#tune-advice');
  const {advised} = await ask(`${api}/sales/quiet/plan`);
  assert.equal(`${await page.inputValue('#tune-amount')}%`, advised);
  await act('#tune-unset');
  await eventually('the nodes’ own buffer counts again', async () => assert.equal((await definition('quiet')).buffer, undefined));
});

step('whoever follows a link to a sale that is not there is not shown another one', async () => {
  await page.goto(`${own.admin}/#sale=gone`);
  await page.locator('#empty-title', {hasText: 'No news of gone'}).waitFor();
  assert.equal(await page.locator('#sale-actions button').count(), 0);
  await choose('quiet');
});

/** What a watcher hears who is told one snapshot. @param {unknown} snapshot */
const stream = (snapshot) => ({contentType: 'text/event-stream', body: `event: snapshot\ndata: ${JSON.stringify(snapshot)}\n\n`});

step('a feed that ends in good order is followed by another: nobody is alarmed, and the page stays at its sale', async () => {
  const snapshot = await ask(`${api}/live?once=true`);
  const [first] = snapshot.sales;
  let opened = 0;
  await page.route('**/admin/v1/live', async (route) => {
    opened += 1;
    if (opened > 1) snapshot.sales.reverse();
    await route.fulfill(stream({...snapshot, at: new Date().toISOString()}));
  });
  await page.goto(`${own.admin}/`);
  await page.locator('#feed[data-is="live"]').waitFor();
  await page.evaluate(() => {
    const lost = document.getElementById('lost');
    Object.assign(window, {alarms: 0});
    const alarmed = () => lost?.hidden || Object.assign(window, {alarms: Reflect.get(window, 'alarms') + 1});
    if (lost) new MutationObserver(alarmed).observe(lost, {attributes: true});
  });
  await eventually('it is opened again and again', async () => assert.ok(opened >= 4));
  assert.equal(await page.evaluate(() => Reflect.get(window, 'alarms')), 0);
  assert.ok(await page.locator('#lost').isHidden());
  assert.equal(await text('#sale-name'), first.name);
  assert.equal(new URL(page.url()).hash, `#sale=${first.sale}`);
  await page.keyboard.press('Tab');
  await page.focus('.skip');
  await page.keyboard.press('Enter');
  await eventually('who skips to the sale is at the same one', async () => assert.equal(new URL(page.url()).hash, `#sale=${first.sale}`));
  assert.ok(await page.locator('#older').isHidden());
  // Taken while a unit moved: told only when it is so again.
  const late = snapshot.nodes.find((/** @type {any} */ node) => node.node === second.name);
  Object.assign(late, {state: 'late', claims: {}});
  // A sampler that has just begun does not know them yet.
  snapshot.lanes = [];
  const wrong = snapshot.sales.find((/** @type {any} */ {sale}) => sale === 'quiet').pools[0];
  const before = opened;
  wrong.free += 1;
  await eventually('it is told', async () => assert.match(await text('#verdict-list'), /quiet: pool stalls does not add up/));
  assert.ok(opened >= before + 2, `${opened} after ${before}`);
  assert.equal(await text(`#lanes [data-key="${second.name}"] .rate dd`), '–');
  assert.equal(await text('#health-figures [data-key="In lanes"] .value'), '–');
  snapshot.version = '9.9.9';
  await page.locator('#older').waitFor();
  assert.match(await text('#older-what'), /its node is of 9\.9\.9 by now/);
  await page.unroute('**/admin/v1/live');
  await page.click('#older-reload');
  await page.locator('#feed[data-is="live"]').waitFor();
  assert.ok(await page.locator('#older').isHidden());
});

step('a snapshot that cannot be shown is told as that', async () => {
  assert.equal(watched.errors.length, 0, String(watched.errors));
  await page.route('**/admin/v1/live', (route) => route.fulfill(stream({at: new Date().toISOString()})));
  await page.reload();
  await page.locator('#lost').waitFor();
  assert.match(await text('#lost-why'), /What came cannot be shown/);
  await page.unroute('**/admin/v1/live');
  await page.locator('#feed[data-is="live"]').waitFor();
  await page.locator('#lost').waitFor({state: 'hidden'});
  assert.ok(watched.errors.length > 0 && watched.errors.every((error) => error.startsWith('TypeError')), String(watched.errors));
  watched.errors.length = 0;
  await choose('quiet');
});

step('an audit runs at a button’s press and tells its verdict', async () => {
  await page.click('#audit');
  await page.locator('#audit-verdict').waitFor();
  assert.match(await text('#audit-verdict'), /^✓ Clean/);
  assert.match(await text('#report-body'), /12 orders/);
  await page.click('#report-close');
});

step('a search answers why a buyer was refused, and what became of an order', async () => {
  await choose('sold');
  await page.fill('#why-of', 'too-late');
  await page.keyboard.press('Enter');
  await page.locator('#why-verdict').waitFor();
  const why = await ask(`${api}/why?sale=sold&buyer=too-late`);
  assert.match(await text('#why-verdict'), /sold out/);
  assert.ok((await text('#why-verdict')).includes(why.because));
  await accessible('why');
  await page.click('#report-close');
  const {orders} = await ask(`${api}/orders?sale=sold&buyer=s-0`);
  await page.fill('#why-of', orders[0].order);
  await page.click('#why-form button');
  await page.locator('#why-verdict').waitFor();
  assert.ok((await text('#report-title')).includes(orders[0].order));
  await page.keyboard.press('Escape');
  // A buyer's id may look like an order's.
  await page.fill('#why-of', 'ab'.repeat(16));
  await page.keyboard.press('Enter');
  await page.locator('#report-title', {hasText: 'asked as a buyer'}).waitFor();
  await page.locator('#why-verdict').waitFor();
  await page.keyboard.press('Escape');
  await page.fill('#why-of', '');
});

step('a list keeps the focus behind an item that goes, and yesterday’s changes are told with their day', async () => {
  const focused = await page.evaluate(async () => {
    const {h, list} = await import(new URL('/console/dom.js', location.href).href);
    const box = document.body.appendChild(document.createElement('div'));
    const show = (/** @type {string[]} */ names) => list(box, names, String, () => h('button', {}), () => {});
    show(['a', 'b', 'c']);
    /** @type {HTMLElement} */ (box.lastElementChild).focus();
    show(['b', 'c', 'd']);
    const found = [/** @type {HTMLElement} */ (document.activeElement).dataset.key, [...box.children].map((child) => /** @type {HTMLElement} */ (child).dataset.key).join('')];
    box.remove();
    return found;
  });
  assert.deepEqual(focused, ['c', 'bcd']);
  await page.locator('.log label', {hasText: 'this sale'}).click();
  await eventually('only its own changes are told', async () => {
    const {changes} = await ask(`${api}/changes?limit=30&subject=sold`);
    assert.deepEqual(await page.locator('#log time').evaluateAll((times) => times.map((time) => time.getAttribute('datetime'))), changes.map((/** @type {any} */ {at}) => at));
  });
  await page.locator('.log label', {hasText: 'all'}).click();
  assert.match(await text('#log > li time'), /^\d\d:\d\d:\d\d$/);
  await page.evaluate(() => {
    /** @type {any} */
    const Today = Date;
    class Tomorrow extends Today {
      constructor(/** @type {any[]} */ ...given) {
        super(...(given.length === 0 ? [Today.now() + 86_400_000] : given));
      }
    }
    Object.assign(window, {Today, Date: Tomorrow});
  });
  await eventually('the day is told', async () => assert.match(await text('#log > li time'), /\d{4}/));
  await page.evaluate(() => Object.assign(window, {Date: Reflect.get(window, 'Today')}));
});

step('an operator without a mouse reaches every control, sees where they are, and acts', async () => {
  await choose('quiet');
  await page.locator('#do-pause').waitFor();
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
  });
  /** @type {Set<string>} */
  const reached = new Set();
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const {id, className, tagName} = document.activeElement ?? document.body;
      const style = getComputedStyle(document.activeElement ?? document.body);
      const ring = document.activeElement?.matches('.choice input') ? getComputedStyle(/** @type {Element} */ (document.activeElement.nextElementSibling)) : style;
      return {name: id || `${tagName}.${className}`, seen: ring.outlineStyle !== 'none' && Number.parseFloat(ring.outlineWidth) >= 2};
    });
    if (at.name === 'BODY.') break;
    assert.ok(at.seen, `the focus on ${at.name} is not seen`);
    reached.add(at.name);
  }
  const wanted = ['why-of', 'who', 'theme', 'do-pause', 'do-stock', 'do-close', 'audit', 'legs-summary', 'drain', 'tune-slider', 'tune-amount', 'tune-unit', 'tune-unset', 'tune-apply'];
  const missed = wanted.filter((id) => !reached.has(id) && !(id === 'legs-summary' && reached.has('SUMMARY.')));
  assert.deepEqual(missed, [], [...reached].join(' '));
  await page.focus('#do-pause');
  await page.keyboard.press('Enter');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  await page.keyboard.press('Escape');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'do-pause');
  await page.keyboard.press('Enter');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'confirm-yes');
  await page.keyboard.press('Enter');
  await page.locator('#confirm[data-stage="done"]').waitFor();
  await page.keyboard.press('Enter');
  await page.locator('#do-resume').waitFor();
  await logged('sale.pause', 'quiet', /paused quiet/);
  assert.ok(await page.evaluate(() => document.activeElement !== document.body), 'the focus is lost with its button');
  await act('#do-resume');
});

step('nothing on it is beyond reach for those who see little or hear it read', async () => {
  await choose('rush');
  await accessible('the page');
  await page.click('#do-stock');
  await page.fill('#stock-delta', '1');
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  await accessible('a confirmation');
  await page.click('#confirm-no');
  await page.click('#who');
  await accessible('who are you');
  await page.click('#sign-in-later');
});

step('it fits a phone and a wall, in light and in dark', async () => {
  await choose('rush');
  const sizes = /** @type {const} */ ([['phone', 360, 780], ['desktop', 1440, 900], ['wall', 2560, 1440]]);
  for (const [name, width, height] of sizes) {
    await page.setViewportSize({width, height});
    await page.locator('#claims-chart canvas').waitFor();
    const [content, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok((content ?? 0) <= (window_ ?? 0), `${name}: ${content} in ${window_}`);
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      await page.emulateMedia({colorScheme});
      await eventually('it is drawn anew', () => page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))));
      await picture(page, `${name}-${colorScheme}`, {whole: true});
    }
  }
  await page.setViewportSize({width: 390, height: 1250});
  await page.emulateMedia({colorScheme: 'dark'});
  await picture(page, 'phone', {shown: true});
  await page.setViewportSize({width: 1440, height: 1180});
  await picture(page, 'dark', {shown: true});
  await page.setViewportSize({width: 1440, height: 900});
  await page.emulateMedia({colorScheme: 'light'});
});

step('a feed that is lost is told loudly, what is old is grey, and it comes back', async () => {
  await page.locator('#feed[data-is="live"]').waitFor();
  assert.deepEqual(watched.failed.filter((what) => !what.includes('ERR_ABORTED')), []);
  process.kill(own.pid, 'SIGSTOP');
  await page.locator('#lost').waitFor();
  assert.match(await text('#lost-what'), /No news from this node\. What you see is as of \d\d:\d\d:\d\d\./);
  assert.match(await text('#lost-why'), /Nothing has come for 4 seconds/);
  assert.match(await page.locator('#data').evaluate((data) => getComputedStyle(data).filter), /grayscale/);
  assert.match(await page.title(), /lost/);
  // Whoever cannot wait asks at once; whoever can need not.
  await page.click('#lost-now');
  process.kill(own.pid, 'SIGCONT');
  await page.locator('#feed[data-is="live"]').waitFor();
  await page.locator('#lost').waitFor({state: 'hidden'});
  await eventually('it is back among the others', async () => assert.equal(await text('#lanes-mark'), '3 alive'));
});

step('a node that dies is seen late, then gone, while the others sell its part', async () => {
  await choose('rush');
  const lane = `#lanes [data-key="${second.name}"]`;
  const fair = async (/** @type {string} */ name) => {
    const {nodes: heard} = await ask(`${api}/live?once=true`);
    return heard.find((/** @type {any} */ node) => node.node === name).shards.rush.standard.fair;
  };
  const before = await fair(own.name);
  process.kill(second.pid, 'SIGKILL');
  await page.locator(`${lane}[data-is="late"]`).waitFor();
  await picture(page, 'late');
  await page.locator(`${lane}[data-is="gone"]`).waitFor();
  assert.match(await text(`${lane} .units`), /sold by the others/);
  assert.match(await text('#verdict'), new RegExp(`${second.name} is gone`));
  await eventually('the others have its part', async () => {
    // A third of what is free has become a half, less what was sold meanwhile.
    assert.ok((await fair(own.name)) > before * 1.2);
    const parts = await page.locator('#lanes > li:not([data-is="gone"]) .track .fair').evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width / (bar.parentElement?.clientWidth ?? 1)));
    assert.ok(parts.length === 2 && parts.every((part) => Math.abs(part - 0.5) < 0.02), String(parts));
  });
  const sold = async () => (await ask(`${api}/sales/rush/balance`)).legs[0].free;
  const free = await sold();
  await eventually('they sell', async () => assert.ok((await sold()) < free));
  await page.setViewportSize({width: 1440, height: 1180});
  await picture(page, 'desktop', {shown: true});
  await page.setViewportSize({width: 1440, height: 900});
});

step('it asked nobody but its node, and nothing went wrong in it', async () => {
  assert.deepEqual([...watched.hosts], [own.admin]);
  assert.deepEqual(watched.errors, []);
  const expected = ['409 /admin/v1/sales/quiet/stock', '404 /admin/v1/why'];
  assert.deepEqual(watched.refused.filter((what) => !expected.includes(what)), []);
});

step('a node is drained by its own console, which says that it is gone and where to look', async () => {
  await act('#drain', (effect) => {
    assert.match(effect, new RegExp(`${third.name} takes over its part, which is [\\d,]+ free units? now`));
    assert.match(effect, /\d+ connections/);
  });
  await page.locator('#lost').waitFor();
  assert.match(await text('#lost-what'), /as of \d\d:\d\d:\d\d/);
  await picture(page, 'lost');
  const {changes} = await ask(`${third.admin}/admin/v1/changes?limit=1`);
  assert.deepEqual([changes[0].what, changes[0].subject], ['node.drain', own.name]);
});
