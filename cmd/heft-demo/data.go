package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// alphabet is all that the generated text contains. A character's place in it
// is its code in the network, and so part of what the weights mean.
const alphabet = "\n +.=0123456789abcdefghijklmnopqrstuvwxyz"

// Each use of randomness has its own stream, so that one can change without
// moving the others.
const (
	streamWeights = iota + 1
	streamText
	streamOrder // plus the epoch
)

// heldOutShare says that one sentence in so many is kept from training.
const heldOutShare = 8

// corpus is generated text, as codes. No sentence is in both parts.
type corpus struct {
	train, heldOut []byte
}

// newCorpus writes text of at least the given lengths. It depends on nothing
// but its arguments.
func newCorpus(seed uint64, train, heldOut int) corpus {
	rng := rand.New(rand.NewPCG(seed, streamText))
	var c corpus
	for len(c.train) < train || len(c.heldOut) < heldOut {
		s := sentence(rng)
		part, limit := &c.train, train
		if isHeldOut(s) {
			part, limit = &c.heldOut, heldOut
		}
		if len(*part) < limit {
			*part = append(*part, encode(s)...)
		}
	}
	return c
}

// isHeldOut says for which part a sentence is. By what it says, not when it was
// made: else a common sentence would be in both, and the accuracy a lie.
func isHeldOut(sentence string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(sentence)) // never fails, says hash.Hash
	// The low bits of FNV hardly depend on the early characters.
	sum := h.Sum32()
	return (sum^sum>>16)%heldOutShare == 0
}

// encode returns the codes of text, which has only characters of the alphabet.
func encode(text string) []byte {
	codes := make([]byte, len(text))
	for i := range len(text) {
		at := strings.IndexByte(alphabet, text[i])
		if at < 0 {
			panic(fmt.Sprintf("heft-demo: character %q is not in the alphabet", text[i]))
		}
		codes[i] = byte(at)
	}
	return codes
}

// decode is the inverse of encode.
func decode(codes []byte) string {
	text := make([]byte, len(codes))
	for i, c := range codes {
		text[i] = alphabet[c]
	}
	return string(text)
}

// The words, separated by spaces.
const (
	adjectives = "small red old quiet happy wild"
	nouns      = "fox bird farmer river child horse robot teacher"
	plurals    = "foxes birds farmers rivers children horses robots teachers"
	verbs      = "see hear follow find like remember"
	numbers    = "two three four five"
)

// sentence returns one line: a sum, or a statement whose verb agrees with its
// subject, so that there is something to learn beyond the spelling.
func sentence(rng *rand.Rand) string {
	if rng.IntN(4) == 0 {
		a, b := rng.IntN(10), rng.IntN(10)
		return fmt.Sprintf("%d + %d = %d.\n", a, b, a+b)
	}
	subject, plural := nounPhrase(rng)
	verb := pick(rng, verbs)
	if !plural {
		verb += "s"
	}
	object, _ := nounPhrase(rng)
	return subject + " " + verb + " " + object + ".\n"
}

// nounPhrase returns such as "the old horse" or "three red foxes", and whether
// it is more than one.
func nounPhrase(rng *rand.Rand) (phrase string, plural bool) {
	determiner, words := "the", nouns
	if plural = rng.IntN(2) == 0; plural {
		determiner, words = pick(rng, numbers), plurals
	}
	if rng.IntN(2) == 0 {
		determiner += " " + pick(rng, adjectives)
	}
	return determiner + " " + pick(rng, words), plural
}

// pick returns one of the words.
func pick(rng *rand.Rand, words string) string {
	list := strings.Fields(words)
	return list[rng.IntN(len(list))]
}

// batch is examples: contexts of equal length one after the other, and the
// character that follows each.
type batch struct {
	contexts, targets []byte
}

// gather returns the examples of text that end at the given places, each at
// least one context from the start.
func gather(text []byte, context int, places []int) batch {
	b := batch{
		contexts: make([]byte, 0, len(places)*context),
		targets:  make([]byte, 0, len(places)),
	}
	for _, at := range places {
		b.contexts = append(b.contexts, text[at-context:at]...)
		b.targets = append(b.targets, text[at])
	}
	return b
}
