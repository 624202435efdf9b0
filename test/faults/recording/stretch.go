package recording

import (
	"reflect"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// Clock runs faster than the real one, so that what an agent does every 10 s, it does in a part of that.
type Clock struct {
	Origin  time.Time
	Squeeze int
}

// Now is the time by this clock.
func (c *Clock) Now() time.Time {
	return c.Origin.Add(time.Duration(c.Squeeze) * time.Since(c.Origin))
}

// Stretcher makes samples that were taken by a faster clock what they would be by the agent's: a tick in which a processor was busy for
// half of the time stays one. Totals are left to who reads the recording.
type Stretcher struct {
	Squeeze int
	Boot    float64 // seconds since boot at the clock's origin
}

// Stretch changes a copy of a sample.
func (s *Stretcher) Stretch(sample *host.Sample) *host.Sample {
	c := *sample
	c.Info, c.Errors, c.CPUSeconds = host.Info{}, nil, 0
	v := deepCopy(reflect.ValueOf(&c))
	stretched := v.Interface().(*host.Sample)
	eachCounter("", v, func(_ string, c *host.Counter) { c.Rate *= float64(s.Squeeze) })
	for _, p := range []*host.ResourcePressure{stretched.Pressure.CPU, stretched.Pressure.Memory, stretched.Pressure.IO} {
		if p == nil {
			continue
		}
		latest(&p.Some)
		latest(p.Full)
	}
	for i := range stretched.Services {
		for j := range stretched.Services[i].Processes {
			p := &stretched.Services[i].Processes[j]
			p.StartSeconds = s.Boot + (p.StartSeconds-s.Boot)*float64(s.Squeeze)
		}
	}
	return stretched
}

// latest makes the average of the kernel's last ten seconds that of the last interval, which is as long by this clock.
func latest(s *host.Stall) {
	if s != nil && host.Known(s.Seconds.Rate) {
		s.Avg10 = 100 * s.Seconds.Rate
	}
}

var counterType = reflect.TypeFor[host.Counter]()

// eachCounter visits the counters below v, each with a path that stays while elements of lists come and go.
func eachCounter(path string, v reflect.Value, visit func(path string, c *host.Counter)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachCounter(path, v.Elem(), visit)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachCounter(path+"/"+name(v.Index(i), i), v.Index(i), visit)
		}
	case reflect.Struct:
		if v.Type() == counterType {
			visit(path, v.Addr().Interface().(*host.Counter))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				eachCounter(path+"."+f.Name, v.Field(i), visit)
			}
		}
	}
}

// name tells elements of a list apart, also where others come and go.
func name(v reflect.Value, i int) string {
	if v.Kind() == reflect.Struct {
		for _, field := range []string{"Device", "Name", "Path", "Mountpoint"} {
			if f := v.FieldByName(field); f.IsValid() && f.Kind() == reflect.String {
				return f.String()
			}
		}
		if f := v.FieldByName("PID"); f.IsValid() {
			return strconv.FormatUint(f.Uint(), 10)
		}
	}
	return strconv.Itoa(i)
}

// deepCopy returns a copy that shares nothing: samples never change.
func deepCopy(v reflect.Value) reflect.Value {
	to := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			to.Set(deepCopy(v.Elem()).Addr())
		}
	case reflect.Slice:
		if !v.IsNil() {
			to.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				to.Index(i).Set(deepCopy(v.Index(i)))
			}
		}
	case reflect.Struct:
		to.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				to.Field(i).Set(deepCopy(v.Field(i)))
			}
		}
	default:
		to.Set(v)
	}
	return to
}
