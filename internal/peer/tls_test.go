package peer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/internal/peer"
)

func TestServerRefusesHandshakes(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	good := certificate(t, friend.Key())
	_, other, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	chain := good
	chain.Certificate = append(chain.Certificate[:1:1], certificate(t, other).Certificate[0])

	for _, c := range []struct {
		name   string
		config *tls.Config
		ok     bool
	}{
		{"as it should be", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"h2", "http/1.1"}}, true},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"h2"}, MaxVersion: tls.VersionTLS12}, false},
		{"no certificate", &tls.Config{NextProtos: []string{"h2"}}, false},
		{"HTTP/1.1", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"http/1.1"}}, false},
		{"no protocol", &tls.Config{Certificates: []tls.Certificate{good}}, false},
		{"a key of another kind", &tls.Config{Certificates: []tls.Certificate{signed(t, curve, curve)}, NextProtos: []string{"h2"}}, false},
		{"signed by another", &tls.Config{Certificates: []tls.Certificate{signed(t, friend.Key(), other)}, NextProtos: []string{"h2"}}, false},
		{"a chain", &tls.Config{Certificates: []tls.Certificate{chain}, NextProtos: []string{"h2"}}, false},
	} {
		c.config.InsecureSkipVerify = true
		err := knock(h.addr, c.config)
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// It proves that each connection shows its key anew: there are no tickets.
func TestServerGivesNoTickets(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate(t, friend.Key())}, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "peer",
	}
	for range 2 {
		must(t, knock(h.addr, config))
	}
	if s, ok := config.ClientSessionCache.Get("peer"); ok {
		t.Errorf("a ticket: %v", s)
	}
}

func TestClientRefusesServers(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	id, other := someone(t), someone(t)
	for _, c := range []struct {
		name string
		cert tls.Certificate
		max  uint16
		alpn string
		why  string
	}{
		{"TLS 1.2", certificate(t, id.Key()), tls.VersionTLS12, "h2", "protocol version"},
		{"HTTP/1.1", certificate(t, id.Key()), 0, "", "does not speak HTTP/2"},
		{"another kind of key", signed(t, curve, curve), 0, "h2", "not of an Ed25519 key"},
		{"signed by another", signed(t, id.Key(), other.Key()), 0, "h2", "not self-signed"},
		{"another's key", certificate(t, other.Key()), 0, "h2", "wrong key: " + string(other.ID())},
	} {
		config := &tls.Config{Certificates: []tls.Certificate{c.cert}, MaxVersion: c.max}
		if c.alpn != "" {
			config.NextProtos = []string{c.alpn}
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
		must(t, err)
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
			}
		}()
		_, err = newClient(t, someone(t)).Ping(t.Context(), peer.Peer{ID: id.ID(), URL: "https://" + ln.Addr().String()}, nil)
		if !errors.Is(err, peer.ErrUnreachable) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", c.name, err)
		}
		ln.Close()
	}
}

func TestListenersShareAPort(t *testing.T) {
	a, err := peer.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	defer a.Close()
	b, err := peer.Listen(t.Context(), a.Addr().String())
	must(t, err)
	defer b.Close()
	if a.Addr().String() != b.Addr().String() {
		t.Errorf("%v and %v", a.Addr(), b.Addr())
	}
	if _, err := peer.Listen(t.Context(), "nonsense"); err == nil {
		t.Error("nonsense is an address")
	}
}

// knock opens a connection and waits until the server has taken it: in TLS 1.3
// a client learns with its first read that it was refused.
func knock(addr string, config *tls.Config) error {
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	conn := tls.Client(raw, config)
	defer conn.Close()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // the server's settings
	return err
}

// signed is a certificate of key, signed by another.
func signed(t *testing.T, key, by crypto.Signer) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), by)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
