import { subscribe } from 'node:diagnostics_channel'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { type Effect, EFFECT_BEFORE } from '../../src/core/index.ts'

/* Preloaded into a vcb process (`node --import`): takes every byte of the file system of FILL_FILE just before an effect, and writes the names of
   all effects to FILL_REPORT as the process ends. FILL_AT names the effects that count, FILL_NTH which of them, FILL_AFTER one that must be done. */
const { FILL_FILE = '', FILL_REPORT = '', FILL_AT = '', FILL_NTH = '1', FILL_AFTER = '' } = process.env
const effects: string[] = []
let count = 0

subscribe(EFFECT_BEFORE, (message) => {
  const { what } = message as Effect
  if (FILL_AT.split(',').includes(what) && (FILL_AFTER === '' || effects.includes(FILL_AFTER)) && ++count === Number(FILL_NTH)) fill()
  effects.push(what)
})
process.on('exit', () => writeFileSync(FILL_REPORT, JSON.stringify({ effects, full: count >= Number(FILL_NTH) })))

function fill(): void {
  const file = openSync(FILL_FILE, 'a')
  try {
    for (const size of [65_536, 4096, 1]) fillBy(file, Buffer.alloc(size))
  } finally {
    closeSync(file)
  }
}

function fillBy(file: number, block: Buffer): void {
  try {
    for (;;) writeSync(file, block)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOSPC') throw error
  }
}
