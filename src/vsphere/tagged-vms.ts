import { type Abortable, AgentError, type MoRef } from '../core/index.ts'
import { RestSession } from './rest-session.ts'
import type { Vsphere } from './vsphere.ts'

/**
 * VMs that carry a tag, by the tag's name, over vCenter's REST interface. CONFIG on ESXi, which has no tags; NOT_FOUND when there is no such
 * tag; USAGE when several categories have one of this name (then `CATEGORY/NAME` is accepted).
 */
export async function findTaggedVms(vsphere: Vsphere, tag: string, options?: Abortable): Promise<readonly MoRef[]> {
  if (vsphere.about.kind === 'esxi') {
    throw new AgentError('CONFIG', `${vsphere.host} is an ESXi host, which has no tags.`, {
      subject: tag,
      next: 'Connect to the vCenter, or select by name or folder.',
    })
  }
  await using rest = await RestSession.open(vsphere, options)
  const attached = list(await rest.attachedTo(await tagId(rest, tag, options), options))
  return attached
    .map((entry) => ({ type: field(entry, 'type'), value: field(entry, 'id') }))
    .filter(({ type, value }) => type === 'VirtualMachine' && value !== '')
}

type Tag = { readonly id: string; readonly name: string; readonly category: string }

async function tagId(rest: RestSession, wanted: string, options?: Abortable): Promise<string> {
  const candidates: Tag[] = []
  for (const id of list(await rest.get('tag', undefined, options)).map(String)) {
    const found = await rest.get('tag', id, options)
    const name = field(found, 'name')
    if (name !== '' && (name === wanted || wanted.endsWith(`/${name}`)))
      candidates.push({ id, name, category: field(found, 'category_id') })
  }
  const exact = candidates.filter(({ name }) => name === wanted)
  const [first, second] = exact.length > 0 ? exact : await inCategory(rest, candidates, wanted, options)
  if (first === undefined)
    throw new AgentError('NOT_FOUND', `There is no tag ${JSON.stringify(wanted)} at ${rest.host}.`, { subject: wanted })
  if (second !== undefined) {
    throw new AgentError('USAGE', `Several categories have a tag ${JSON.stringify(wanted)}.`, {
      subject: wanted,
      next: 'Write tag:CATEGORY/NAME.',
    })
  }
  return first.id
}

async function inCategory(rest: RestSession, tags: readonly Tag[], wanted: string, options?: Abortable): Promise<readonly Tag[]> {
  const fitting: Tag[] = []
  for (const tag of tags) {
    const category = field(await rest.get('category', tag.category, options), 'name')
    if (`${category}/${tag.name}` === wanted) fitting.push(tag)
  }
  return fitting
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

const field = (value: unknown, name: string): string => {
  const found = typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined
  return typeof found === 'string' ? found : ''
}
