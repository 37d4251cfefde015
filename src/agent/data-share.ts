import { AgentError } from '../core/index.ts'
import { SLICES } from '../provider/index.ts'

/**
 * A share of a repository's data, as `SLICES` parts that are looked at: `3/28`, always the same third of 28 even shares, or `5%`, other ones each time. USAGE.
 * `random`: a number from 0 up to but not 1.
 */
export function parseDataShare(text: string, random: () => number): readonly number[] {
  const all = Array.from({ length: SLICES }, (_, slice) => slice)
  const [, which, of] = /^(\d{1,3})\/(\d{1,3})$/u.exec(text) ?? []
  if (which !== undefined && of !== undefined) {
    const [part, parts] = [Number(which), Number(of)]
    if (part < 1 || part > parts || parts > SLICES) throw wrongShare(text)
    return all.filter((slice) => slice % parts === part - 1)
  }
  const percent = Number(/^(\d{1,3}(?:\.\d{1,3})?)%$/u.exec(text)?.[1])
  if (!(percent > 0 && percent <= 100)) throw wrongShare(text)
  const shuffled = all.map((slice) => ({ slice, at: random() })).sort((a, b) => a.at - b.at)
  return shuffled.slice(0, Math.ceil((SLICES * percent) / 100)).map(({ slice }) => slice)
}

const wrongShare = (text: string): AgentError =>
  new AgentError('USAGE', `"${text}" is not a share of the data.`, {
    subject: text,
    next: `Write it like 3/28 (the third of 28 shares, at most ${SLICES}) or 5%.`,
  })
