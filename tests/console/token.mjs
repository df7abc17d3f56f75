/** The console of a node that wants a token. */

import assert from 'node:assert/strict';
import {after, test} from 'node:test';

import {ask, browse, eventually, nodes} from './browser.mjs';

const [node] = nodes();
assert.ok(node);
const {context, page, watched, close} = await browse({width: 390, height: 844});
after(close);

test('the page is there without a token, asks for it, and says when it is wrong', async () => {
  await page.goto(node.admin);
  await page.locator('#sign-in[open]').waitFor();
  assert.match((await page.locator('#sign-in-why').textContent()) ?? '', /wants its admin token/);
  assert.equal(await page.locator('#lost-again').textContent(), 'It is opened as soon as you have signed in.');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'token');
  await page.fill('#token', 'another secret');
  await page.keyboard.press('Enter');
  await page.locator('#sign-in[open] #sign-in-why', {hasText: 'does not take that token'}).waitFor();
  assert.equal(await page.locator('#sale').isVisible(), false);
});

test('where nobody has made a sale yet, the page says how to make one', async () => {
  await page.locator('#sign-in[open]').waitFor();
  await page.fill('#operator', 'bob');
  await page.fill('#token', 'a secret of operators');
  await page.keyboard.press('Enter');
  await page.locator('#feed[data-is="live"]').waitFor();
  assert.equal(await page.locator('#who').textContent(), 'bob');
  await page.locator('#empty').waitFor();
});

test('a sale appears as soon as it is there, and changes carry the operator’s name', async () => {
  const headers = {Authorization: 'Bearer a secret of operators', 'Content-Type': 'application/json'};
  const sale = {name: 'Demo', opens_at: '2020-01-01T00:00:00Z', currency: 'CNY', pools: [{id: 'standard', capacity: 100, price: 1}]};
  await ask(`${node.admin}/admin/v1/sales/demo`, {method: 'PUT', headers, body: JSON.stringify(sale)});
  await page.locator('#do-pause').waitFor();
  assert.equal(new URL(page.url()).hash, '#sale=demo');
  await page.locator('#do-pause').click();
  await page.locator('#confirm[data-stage="ready"]').waitFor();
  await page.click('#confirm-yes');
  await page.locator('#confirm[data-stage="done"]').waitFor();
  await page.click('#confirm-no');
  await eventually('it is in the log', async () => assert.match((await page.locator('#log > li').first().textContent()) ?? '', /admin\/bob paused demo/));
});

test('the token is in this tab alone, and a reload keeps it', async () => {
  const kept = await page.evaluate(() => [JSON.stringify({...localStorage}), document.cookie, document.documentElement.innerHTML, location.href].join(' '));
  assert.ok(!kept.includes('a secret'), 'the token is kept where it should not be');
  await page.reload();
  await page.locator('#feed[data-is="live"]').waitFor();
  const other = await context.newPage();
  await other.goto(node.admin);
  await other.locator('#sign-in[open]').waitFor();
  await other.close();
  await page.click('#who');
  await page.click('#sign-out');
  await page.locator('#sign-in[open]').waitFor();
});

test('the theme is the system’s until one is chosen, which is remembered', async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.keyboard.press('Escape');
  await page.emulateMedia({colorScheme: 'light'});
  const light = await ground();
  await page.emulateMedia({colorScheme: 'dark'});
  const dark = await ground();
  assert.notEqual(light, dark);
  await page.click('#theme');
  assert.equal(await ground(), light);
  await page.reload();
  assert.equal(await ground(), light);
  assert.match((await page.locator('#theme').textContent()) ?? '', /light/);
});

test('it fails nowhere but where it was refused', () => {
  assert.deepEqual(watched.errors, []);
  assert.deepEqual(watched.refused.filter((what) => !what.startsWith('401 ')), []);
});
