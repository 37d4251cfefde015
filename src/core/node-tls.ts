/** Node's TLS, loaded with the first call, which takes 8 ms: for who may have to connect, in rooms that every command loads. */
export const nodeTls = (): typeof import('node:tls') => process.getBuiltinModule('node:tls')
