import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Endpoint } from './endpoint.ts'
import type { VmRecord } from './record.ts'

/**
 * The vCenter REST paths a backup needs: sessions and reading tags, in the old (`/rest/com/vmware/cis/…`) and new (`/api/…`) form. A session
 * here is its own token, opened with HTTP Basic.
 */
export class TagsHttp {
  readonly #endpoint: Endpoint
  readonly #check: (user: string, password: string) => boolean
  readonly #tokens = new Set<string>()

  constructor(endpoint: Endpoint, check: (user: string, password: string) => boolean) {
    this.#endpoint = endpoint
    this.#check = check
  }

  /** True when the path is one of these. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const url = new URL(request.url ?? '/', 'https://lab')
    const old = url.pathname.startsWith('/rest/com/vmware/cis/')
    const match = old
      ? url.pathname.slice('/rest/com/vmware/cis/'.length)
      : url.pathname === '/api/session'
        ? 'session'
        : url.pathname.startsWith('/api/cis/')
          ? url.pathname.slice('/api/cis/'.length)
          : undefined
    if (match === undefined || this.#endpoint.view.kind === 'esxi') return false
    const body = await readBody(request)
    const send = (status: number, value: unknown): true => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(old && status === 200 ? { value } : value))
      return true
    }
    const problem = (status: number, type: string): true => send(status, { error_type: type.toUpperCase(), messages: [] })
    const token = request.headers['vmware-api-session-id']
    if (match === 'session') {
      if (request.method === 'POST') {
        const [user = '', password = ''] = basic(request)
        if (!this.#check(user, password)) return problem(401, 'unauthenticated')
        const fresh = randomUUID().replaceAll('-', '')
        this.#tokens.add(fresh)
        return old ? send(200, fresh) : send(201, fresh)
      }
      if (typeof token !== 'string' || !this.#tokens.has(token)) return problem(401, 'unauthenticated')
      if (request.method === 'DELETE') this.#tokens.delete(token)
      return send(200, request.method === 'GET' ? { user: '' } : null)
    }
    if (typeof token !== 'string' || !this.#tokens.has(token)) return problem(401, 'unauthenticated')
    const action = url.searchParams.get('~action') ?? url.searchParams.get('action')
    return this.#tagging(match, request.method ?? 'GET', action, body, send, problem)
  }

  #tagging(
    path: string,
    method: string,
    action: string | null,
    body: Record<string, unknown>,
    send: (status: number, value: unknown) => true,
    problem: (status: number, type: string) => true,
  ): true {
    const names = this.#names()
    const [, noun, id] = /^tagging\/(category|tag|tag-association)(?:\/id:([^/]+)|\/([^/]+))?$/.exec(path) ?? []
    const wanted = id ?? /^tagging\/[a-z-]+\/(?:id:)?(.+)$/.exec(path)?.[1]
    if (noun === 'category' && method === 'GET') {
      if (wanted === undefined) return send(200, [this.#category])
      return decodeURIComponent(wanted) === this.#category
        ? send(200, {
            id: this.#category,
            name: 'backup',
            description: '',
            cardinality: 'MULTIPLE',
            associable_types: ['VirtualMachine'],
            used_by: [],
          })
        : problem(404, 'not_found')
    }
    if (noun === 'tag' && method === 'POST' && action === 'list-tags-for-category')
      return send(
        200,
        names.map((name) => this.#tagId(name)),
      )
    if (noun === 'tag' && method === 'GET') {
      if (wanted === undefined)
        return send(
          200,
          names.map((name) => this.#tagId(name)),
        )
      const name = names.find((candidate) => this.#tagId(candidate) === decodeURIComponent(wanted))
      return name === undefined
        ? problem(404, 'not_found')
        : send(200, { id: this.#tagId(name), category_id: this.#category, name, description: '', used_by: [] })
    }
    const association = /^tagging\/tag-association(?:\/(?:id:)?(.+))?$/.exec(path)
    if (association !== null && method === 'POST') {
      if (action === 'list-attached-tags') {
        const vm = this.#vmOf(body['object_id'])
        return vm === undefined
          ? problem(404, 'not_found')
          : send(
              200,
              vm.tags.map((name) => this.#tagId(name)),
            )
      }
      if (action === 'list-attached-tags-on-objects') {
        const asked = Array.isArray(body['object_ids']) ? body['object_ids'] : []
        return send(
          200,
          asked.flatMap((object: unknown) => {
            const vm = this.#vmOf(object)
            return vm === undefined || vm.tags.length === 0
              ? []
              : [{ object_id: object, tag_ids: vm.tags.map((name) => this.#tagId(name)) }]
          }),
        )
      }
      if (action === 'list-attached-objects') {
        const tag = names.find((name) => this.#tagId(name) === decodeURIComponent(association[1] ?? ''))
        return tag === undefined ? problem(404, 'not_found') : send(200, this.#objects(tag))
      }
      if (action === 'list-attached-objects-on-tags') {
        const asked = Array.isArray(body['tag_ids']) ? body['tag_ids'] : []
        return send(
          200,
          asked.map((tagId: unknown) => ({
            tag_id: tagId,
            object_ids: this.#objects(names.find((name) => this.#tagId(name) === tagId) ?? ''),
          })),
        )
      }
    }
    return problem(404, 'not_found')
  }

  get #category(): string {
    return `urn:vmomi:InventoryServiceCategory:${this.#endpoint.model.world.seeded.uuid('category')}:GLOBAL`
  }

  #tagId(name: string): string {
    return `urn:vmomi:InventoryServiceTag:${this.#endpoint.model.world.seeded.uuid('tag', name)}:GLOBAL`
  }

  #names(): string[] {
    return [...new Set(this.#endpoint.view.vms().flatMap((vm) => vm.tags))].sort()
  }

  #objects(tag: string): { type: string; id: string }[] {
    return this.#endpoint.view
      .vms()
      .filter((vm) => vm.tags.includes(tag))
      .map((vm) => ({ type: 'VirtualMachine', id: vm.id }))
  }

  #vmOf(object: unknown): VmRecord | undefined {
    if (typeof object !== 'object' || object === null || !('id' in object) || typeof object.id !== 'string') return undefined
    const entity = this.#endpoint.view.find(object.id)
    return entity?.kind === 'vm' ? entity.record : undefined
  }
}

function basic(request: IncomingMessage): string[] {
  const text = Buffer.from(/^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '', 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 0 ? [] : [text.slice(0, colon), text.slice(colon + 1)]
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size <= 1_048_576) pieces.push(piece)
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(pieces).toString('utf8') || '{}')
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    // A body that is no JSON is an empty request; the action then answers not_found.
    return {}
  }
}
