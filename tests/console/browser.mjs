/** A browser in front of a node, and what is watched while a test uses it. */

import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import {chromium} from 'playwright-core';

/** How long whatever must happen may take on a busy machine. Nothing waits for it to pass. */
export const PATIENCE = 30_000;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** @typedef {{name: string, pid: number, admin: string, public: string | null}} Node */

/** The processes of the site, gateways first. @returns {Node[]} */
export function nodes() {
  return JSON.parse(process.env.RUSHGATE_CONSOLE_NODES ?? '[]');
}

/**
 * Opens a browser that nobody has used before.
 *
 * @param {{width?: number, height?: number}} [size]
 */
export async function browse({width = 1440, height = 900} = {}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'rushgate-console-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.RUSHGATE_TEST_CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ARGUMENTS,
    viewport: {width, height},
    colorScheme: 'light',
  });
  context.setDefaultTimeout(PATIENCE);
  const page = context.pages()[0] ?? (await context.newPage());
  const watched = watch(page);
  const close = async () => {
    await context.close();
    fs.rmSync(profile, {recursive: true, force: true});
  };
  return {context, page, watched, close};
}

/**
 * Notes what a page should not do.
 *
 * @param {import('playwright-core').Page} page
 */
function watch(page) {
  /** @type {{errors: string[], hosts: Set<string>, refused: string[], failed: string[]}} */
  const watched = {errors: [], hosts: new Set(), refused: [], failed: []};
  page.on('pageerror', (error) => watched.errors.push(String(error.stack ?? error)));
  page.on('console', (message) => {
    // Chromium tells of every refusal in its own words; they are counted by their status.
    const told = message.text().startsWith('Failed to load resource');
    if (!told && ['error', 'warning'].includes(message.type())) watched.errors.push(message.text());
  });
  page.on('request', (request) => watched.hosts.add(new URL(request.url()).origin));
  page.on('response', (response) => {
    if (response.status() >= 400) watched.refused.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  page.on('requestfailed', (request) => watched.failed.push(`${request.url()}: ${request.failure()?.errorText}`));
  return watched;
}

/**
 * Tries until it holds; fails with the last reason when patience ends.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T>} attempt
 * @returns {Promise<T>}
 */
export async function eventually(what, attempt) {
  const begun = Date.now();
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() - begun > PATIENCE) throw new Error(`not in ${PATIENCE} ms: ${what}: ${error}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/**
 * What an admin API answers, as the page hears it.
 *
 * @param {string} url
 * @param {RequestInit} [init]
 * @returns {Promise<any>}
 */
export async function ask(url, init) {
  const answer = await fetch(url, init);
  const body = await answer.json();
  assert.ok(answer.ok, `${url}: ${JSON.stringify(body)}`);
  return body;
}

/**
 * Keeps a picture of the page as it is now in `target/console`, and in the repository if this run is told to.
 *
 * @param {import('playwright-core').Page} page
 * @param {string} name
 * @param {{whole?: boolean, shown?: boolean}} [options] `whole`: to the page's end, and not only what fits in the window; `shown`: documents
 *   show it, so it is made small by pngquant.
 */
export async function picture(page, name, {whole = false, shown = false} = {}) {
  const here = import.meta.dirname;
  const folders = [path.join(here, '../../target/console')];
  if (shown && process.env.RUSHGATE_TEST_PICTURES === 'yes') folders.push(path.join(here, 'pictures'));
  const image = await page.screenshot({fullPage: whole, animations: 'disabled'});
  for (const folder of folders) {
    fs.mkdirSync(folder, {recursive: true});
    fs.writeFileSync(path.join(folder, `${name}.png`), image);
  }
  if (folders[1]) execFileSync('pngquant', ['--force', '--strip', '--ext', '.png', '64', path.join(folders[1], `${name}.png`)]);
}
