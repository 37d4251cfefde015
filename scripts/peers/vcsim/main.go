// vcsim: stands in for VMware's command of that name where only Debian's library package is to be had and not its source package. The same
// simulator, with the command's flags that our tests use.
//
//	vcsim [-l ADDRESS] [-username NAME -password WORD] [-esx] [-dc N] [-cluster N] [-host N] [-vm N] [-ds N] [-folder N] [-app N] [-pg N]
//
// Prints `export GOVC_URL=… GOVC_SIM_PID=…` and serves until it is ended.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // REST: session and tags
)

func main() {
	model := simulator.VPX()
	for _, argument := range os.Args[1:] { // decides what the other flags default to
		if argument == "-esx" || argument == "--esx" {
			model = simulator.ESX()
		}
	}
	esx := flag.Bool("esx", false, "one ESXi host in place of a vCenter")
	listen := flag.String("l", "127.0.0.1:8989", "address")
	username := flag.String("username", "user", "user name")
	password := flag.String("password", "pass", "password")
	flag.IntVar(&model.Datacenter, "dc", model.Datacenter, "datacenters")
	flag.IntVar(&model.Cluster, "cluster", model.Cluster, "clusters per datacenter")
	flag.IntVar(&model.Host, "host", model.Host, "hosts outside clusters per datacenter")
	flag.IntVar(&model.Machine, "vm", model.Machine, "virtual machines per resource pool")
	flag.IntVar(&model.Datastore, "ds", model.Datastore, "datastores per datacenter")
	flag.IntVar(&model.Folder, "folder", model.Folder, "folders per inventory folder")
	flag.IntVar(&model.App, "app", model.App, "vApps per cluster")
	flag.IntVar(&model.Portgroup, "pg", model.Portgroup, "port groups per datacenter")
	flag.Parse()

	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.RegisterEndpoints = !*esx
	model.Service.Listen = &url.URL{User: url.UserPassword(*username, *password), Host: *listen}
	model.Service.TLS = new(tls.Config)
	server := model.Service.NewServer()
	fmt.Printf("export GOVC_URL=%s GOVC_SIM_PID=%d\n", server.URL, os.Getpid())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	server.Close()
	model.Remove()
}
