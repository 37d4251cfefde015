import { invalidArgument, VimFault } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import { managerRefs, ownManagerRef, SERVICE_INSTANCE } from './service-content.ts'
import { isList, isObject, type LabObject, type LabValue, textOf } from './value.ts'
import { sessionOf, type WireCall, type WireContext, type WireMethods } from './wire-context.ts'
import type { LabSession } from './session.ts'

/** ServiceContent: the roots, and every manager that somebody serves. */
export function serviceContent(context: WireContext): LabObject {
  const { kind, rootFolder, about } = context.options
  const served = [...managerRefs(kind)].filter(
    ([, ref]) => ref.value === 'propertyCollector' || ref.value === 'ha-property-collector' || context.lookup(ref, undefined) !== undefined,
  )
  return { $type: 'ServiceContent', rootFolder, about, ...Object.fromEntries(served) }
}

/** The ServiceInstance object. */
export const serviceInstance = (context: WireContext): ManagedObject => ({
  ref: SERVICE_INSTANCE,
  property: (name) => {
    switch (name) {
      case 'serverClock':
        return context.options.clock.now()
      case 'content':
        return serviceContent(context)
      case 'capability':
        return {
          $type: 'Capability',
          provisioningSupported: context.options.kind === 'vcenter',
          multiHostSupported: context.options.kind === 'vcenter',
          userShellAccessSupported: false,
          networkBackupAndRestoreSupported: false,
        }
      default:
        return undefined
    }
  },
})

/** The SessionManager as one session sees it. */
export const sessionManager = (context: WireContext, session: LabSession | undefined): ManagedObject => ({
  ref: ownManagerRef(context.options.kind, 'sessionManager'),
  property: (name) => {
    const { sessions } = context.options
    switch (name) {
      case 'currentSession':
        return session === undefined ? undefined : sessions.userSession(session)
      case 'sessionList':
        return session === undefined ? undefined : sessions.list().map((one) => sessions.userSession(one))
      case 'message':
        return ''
      case 'messageLocaleList':
      case 'supportedLocaleList':
        return ['en', 'de', 'fr', 'ja', 'ko', 'zh_CN']
      case 'defaultLocale':
        return 'en'
      default:
        return undefined
    }
  },
})

/** Session faults of Login on a connection that is logged in already; real servers refuse it. */
function login(call: WireCall): LabObject {
  const { sessions } = call.context.options
  if (call.session !== undefined) {
    throw new VimFault(
      'InvalidLogin',
      {},
      'Cannot complete login due to an incorrect user name or password: the session is already logged in.',
    )
  }
  const locale = typeof call.args.locale === 'string' ? call.args.locale : undefined
  const userName = textOf(call.args.userName)
  try {
    const { session, setCookie } = sessions.login(userName, textOf(call.args.password), { ...call.peer, locale })
    call.setCookie(setCookie)
    call.context.options.events.post({
      $type: 'UserLoginSessionEvent',
      userName: session.userName,
      fullFormattedMessage: `User ${session.userName}@${session.ipAddress} logged in`,
      ipAddress: session.ipAddress,
      userAgent: session.userAgent,
      locale: session.locale,
      sessionId: session.key,
    })
    return sessions.userSession(session)
  } catch (error) {
    call.context.options.events.post({
      $type: 'BadUsernameSessionEvent',
      userName,
      fullFormattedMessage: `Cannot login ${userName}@${call.peer.ipAddress}`,
      ipAddress: call.peer.ipAddress,
    })
    throw error
  }
}

function genericTicket(call: WireCall): LabObject {
  const { spec } = call.args
  if (!isObject(spec) || spec.$type !== 'SessionManagerHttpServiceRequestSpec') throw invalidArgument('spec')
  const url = textOf(spec.url)
  if (!URL.canParse(url)) throw invalidArgument('spec.url')
  const ticket = call.context.options.sessions.issueServiceTicket(
    sessionOf(call),
    url,
    typeof spec.method === 'string' ? spec.method : undefined,
  )
  return {
    $type: 'SessionManagerGenericServiceTicket',
    id: ticket.id,
    hostName: new URL(url).hostname,
    sslThumbprint: call.context.thumbprint(),
    ticketType: 'HttpServiceTicket',
  }
}

function terminate(call: WireCall): undefined {
  const { sessions } = call.context.options
  const keys = isList(call.args.sessionId) ? call.args.sessionId : []
  for (const key of keys) {
    const session = sessions.list().find((one) => one.key === key)
    if (session === undefined) throw new VimFault('NotFound', {}, 'The session is not known.')
    if (session.key === sessionOf(call).key) throw invalidArgument('sessionId')
    sessions.logout(session)
  }
}

export const sessionMethods: WireMethods = {
  ServiceInstance: {
    RetrieveServiceContent: (call) => serviceContent(call.context),
    CurrentTime: (call) => call.context.options.clock.now(),
  },
  SessionManager: {
    Login: login,
    Logout: (call) => call.context.options.sessions.logout(sessionOf(call)),
    SessionIsActive: (call) => {
      if (call.context.options.kind === 'esxi') throw new VimFault('NotImplemented', {}, 'The operation is not implemented.')
      const { sessionID, userName } = call.args
      return call.context.options.sessions.list().some((one) => one.key === sessionID && one.userName === userName)
    },
    SetLocale: (): LabValue => undefined,
    TerminateSession: terminate,
    AcquireCloneTicket: (call) => call.context.options.sessions.issueCloneTicket(sessionOf(call)),
    CloneSession: (call) => {
      const { session, setCookie } = call.context.options.sessions.cloneSession(textOf(call.args.cloneTicket), call.peer)
      call.setCookie(setCookie)
      return call.context.options.sessions.userSession(session)
    },
    AcquireGenericServiceTicket: genericTicket,
  },
}
