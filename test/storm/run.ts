/* npm run test:storm -- --seed S --kills N [--lab-kills M]: see CONTRIBUTING.md. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { storm } from './storm.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    kills: { type: 'string', default: '200' },
    'lab-kills': { type: 'string', default: '50' },
    quiet: { type: 'boolean', default: false },
  },
})
const whole = (text: string, flag: string): number => {
  if (!/^\d+$/.test(text)) throw new Error(`${flag} is not a whole number: ${text}`)
  return Number(text)
}
const restic = (process.env['PATH'] ?? '')
  .split(delimiter)
  .map((directory) => join(directory, 'restic'))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
const seed = whole(values.seed, '--seed')
const kills = whole(values.kills, '--kills')
const labKills = whole(values['lab-kills'], '--lab-kills')
console.log(`storm: seed ${seed}, ${kills} kills of the agent, ${labKills} of the lab`)
if (restic === undefined) throw new Error('restic is not on this machine; scripts/install-peers.sh brings it')
const result = await storm({
  seed,
  kills,
  labKills,
  restic,
  keep: true,
  say: (line) => {
    if (!values.quiet) console.log(line)
  },
})
for (const problem of result.problems) console.log(`WRONG  ${problem}`)
console.log(
  [
    '',
    `seed            ${seed}`,
    `agent kills     ${result.kills}`,
    `lab kills       ${result.labKills}`,
    `commands        ${result.run} run, ${result.succeeded} succeeded, ${result.refused} refused, ${result.failed} failed, ${result.kills} killed`,
    `points          ${result.points}`,
    `leftovers       ${result.leftovers}`,
    `wrong digests   ${result.wrongDigests}`,
    `duration        ${Math.round(result.ms / 1000)} s`,
  ].join('\n'),
)
if (result.problems.length > 0) {
  console.log(`\nEverything is kept in ${result.directory}.`)
  console.log(`Again: npm run test:storm -- --seed ${seed} --kills ${kills} --lab-kills ${labKills}`)
  process.exitCode = 1
}
console.log(`\n${result.passed} passed, ${result.problems.length} failed`)
