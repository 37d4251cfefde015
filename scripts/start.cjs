// The start of every command, in the oldest syntax a Node may meet: finds a Node that is new enough, then runs the command in it.
'use strict'
var path = require('node:path')
var fs = require('node:fs')
var WANTED = 26

function entry() {
  var built = path.join(__dirname, '..', 'dist', 'main.js')
  var source = path.join(__dirname, '..', 'src', 'cli', 'main.ts')
  return fs.existsSync(source) ? source : built
}

/** `script` is the file that was started; `run` gets what src/cli/main.ts exports and the words of the command line. */
module.exports = function start(script, run) {
  if (parseInt(process.versions.node, 10) >= WANTED) {
    // Compiled code is kept inside the installation, never in a directory that others can write to. Threads find it by the variable: stripping
    // TypeScript again would cost each of them tens of MiB.
    var cache = path.join(__dirname, '..', 'node_modules', '.cache', 'vcb')
    require('node:module').enableCompileCache(cache)
    require('./heap.cjs')
    process.env.NODE_COMPILE_CACHE = cache
    import('node:url')
      .then(function (url) {
        return import(url.pathToFileURL(entry()).href)
      })
      .then(function (cli) {
        return run(cli, process.argv.slice(2))
      })
      .then(function (status) {
        process.exitCode = status
      })
  } else {
    var name = 'node-' + process.platform + '-' + process.arch
    var binary
    try {
      binary = path.join(path.dirname(require.resolve(name + '/package.json')), 'bin', 'node')
    } catch (_error) {
      process.stderr.write(
        'vcb needs Node ' +
          WANTED +
          ' or newer and this is Node ' +
          process.versions.node +
          '. Run "npm ci" in its folder, which brings one, or install Node ' +
          WANTED +
          '.\n',
      )
      process.exit(3)
    }
    var child = require('node:child_process').spawn(binary, [script].concat(process.argv.slice(2)), { stdio: 'inherit' })
    ;['SIGINT', 'SIGTERM', 'SIGHUP'].forEach(function (signal) {
      process.on(signal, function () {
        child.kill(signal)
      })
    })
    child.on('exit', function (code, signal) {
      if (signal) process.kill(process.pid, signal)
      else process.exitCode = code
    })
  }
}
