/* npm run test:storm -- --seed S --kills N [--lab-kills M]
   npm run test:storm -- --other-side [--sample N] [--every] [--flow NAME [--cut EFFECT]]
   See docs/testing.md. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { otherSide } from './other-side.ts'
import { storm } from './storm.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    kills: { type: 'string', default: '200' },
    'lab-kills': { type: 'string', default: '50' },
    'other-side': { type: 'boolean', default: false },
    sample: { type: 'string' },
    cut: { type: 'string' },
    every: { type: 'boolean', default: false },
    flow: { type: 'string', multiple: true, default: [] },
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
const say = (line: string): void => {
  if (!values.quiet) console.log(line)
}
const report = (facts: Readonly<Record<string, string | number>>): void =>
  console.log(
    `\n${Object.entries(facts)
      .map(([name, fact]) => `${name.padEnd(16)}${fact}`)
      .join('\n')}`,
  )
const end = (
  result: { readonly passed: number; readonly problems: readonly string[]; readonly directory: string },
  again: string,
): void => {
  if (result.problems.length > 0) {
    console.log(`\nEverything is kept in ${result.directory}.\nAgain: npm run test:storm -- ${again}`)
    process.exitCode = 1
  }
  console.log(`\n${result.passed} passed, ${result.problems.length} failed`)
}

if (values['other-side']) await runOtherSide()
else await runStorm()

async function runStorm(): Promise<void> {
  const kills = whole(values.kills, '--kills')
  const labKills = whole(values['lab-kills'], '--lab-kills')
  console.log(`storm: seed ${seed}, ${kills} kills of the agent, ${labKills} of the lab`)
  if (restic === undefined) throw new Error('restic is not on this machine; scripts/install-peers.sh brings it')
  const result = await storm({ seed, kills, labKills, restic, keep: true, say })
  for (const problem of result.problems) console.log(`WRONG  ${problem}`)
  report({
    seed,
    'agent kills': result.kills,
    'lab kills': result.labKills,
    commands: `${result.run} run, ${result.succeeded} succeeded, ${result.refused} refused, ${result.failed} failed, ${result.kills} killed`,
    points: result.points,
    leftovers: result.leftovers,
    'wrong digests': result.wrongDigests,
    duration: `${Math.round(result.ms / 1000)} s`,
  })
  end(result, `--seed ${seed} --kills ${kills} --lab-kills ${labKills}`)
}

async function runOtherSide(): Promise<void> {
  const sample = values.sample === undefined ? undefined : whole(values.sample, '--sample')
  const cut = values.cut === undefined ? undefined : whole(values.cut, '--cut')
  const result = await otherSide({ seed, sample, cut, every: values.every, flows: values.flow, keep: true, say })
  report({
    cuts: result.cuts,
    commands: `${result.succeeded} succeeded, ${result.failed} failed with a sentence`,
    'longest command': `${(result.longestMs / 1000).toFixed(1)} s`,
    'wrong digests': result.wrongDigests,
  })
  end(
    result,
    `--other-side --seed ${seed}${sample === undefined ? '' : ` --sample ${sample}`}${values.every ? ' --every' : ''}${values.flow.map((name) => ` --flow ${name}`).join('')}`,
  )
}
